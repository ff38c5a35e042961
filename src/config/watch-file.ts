import { unwatchFile, watchFile } from 'node:fs'

/**
 * Calls back when the file's content may have changed, however it was saved: in place, by rename, by a symlink swap, or
 * by a new bind mount. Polls `stat`, which sees all of these alike, where file notifications miss some.
 */
export function watchFileForChanges(path: string, intervalMs: number, onChange: () => void): () => void {
  const listener = (
    now: { mtimeMs: number; ino: number; size: number },
    before: { mtimeMs: number; ino: number; size: number },
  ): void => {
    if (now.mtimeMs !== before.mtimeMs || now.ino !== before.ino || now.size !== before.size) onChange()
  }
  watchFile(path, { persistent: false, interval: intervalMs }, listener)
  return () => unwatchFile(path, listener)
}
