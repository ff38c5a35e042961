import { closeSync, mkdirSync, openSync, statSync, utimes } from 'node:fs'
import { join } from 'node:path'
import { RUN_FOLDER } from '../envoy-files/folder.ts'

/** An empty file. A serving processor renews its modification time. */
const ALIVE_FILE = join(RUN_FOLDER, 'alive')
const ALIVE_EVERY_MS = 1000

/**
 * Milliseconds since a processor of this folder last served, or null if unknown.
 * @param nowMs milliseconds since 1970
 */
export function awayMsUntil(nowMs: number): number | null {
  try {
    return Math.max(0, nowMs - statSync(ALIVE_FILE).mtimeMs)
  } catch {
    return null
  }
}

/** Marks this processor as serving from now on. Does nothing if it can't write to the folder. */
export function keepAliveFile(): void {
  try {
    mkdirSync(RUN_FOLDER, { recursive: true })
    closeSync(openSync(ALIVE_FILE, 'a'))
  } catch {
    return
  }
  const renew = (): void => utimes(ALIVE_FILE, new Date(), new Date(), () => undefined)
  renew()
  setInterval(renew, ALIVE_EVERY_MS).unref()
}
