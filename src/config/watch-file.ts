import { type Stats, unwatchFile, watchFile } from 'node:fs'
import { guarded, type OnBug } from '../guard.ts'

/**
 * Calls back when a file's content may have become another, however it was saved: in place, by rename, by a symlink
 * swap, or by a new bind mount. Polls `stat`, which sees all of these alike, where file notifications miss some.
 *
 * Calls back only once nothing has changed for a whole interval: a file that is being written in place is empty or half
 * for a moment, and half a file may well be valid.
 * @param onBug told of an exception of `onChange`; the watch goes on
 * @returns ends the watch
 */
export function watchFileForChanges(
  path: string,
  intervalMs: number,
  onChange: () => void,
  onBug: OnBug,
): () => void {
  let settling: NodeJS.Timeout | undefined
  const changed = guarded(onBug, onChange)
  const listener = (now: Stats, before: Stats): void => {
    if (now.mtimeMs === before.mtimeMs && now.ino === before.ino && now.size === before.size) return
    clearTimeout(settling)
    settling = setTimeout(changed, intervalMs)
    settling.unref()
  }
  watchFile(path, { persistent: false, interval: intervalMs }, listener)
  return () => {
    clearTimeout(settling)
    unwatchFile(path, listener)
  }
}
