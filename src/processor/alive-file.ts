import { closeSync, mkdirSync, openSync, statSync, utimes } from 'node:fs'
import { join } from 'node:path'
import { RUN_FOLDER } from '../envoy-files/folder.ts'

/** An empty file: when it was last changed a processor of this folder served. */
const ALIVE_FILE = join(RUN_FOLDER, 'alive')
const ALIVE_EVERY_MS = 1000

/**
 * How long before now the last processor of this folder served, milliseconds; null: nobody knows.
 * @param nowMs since 1970
 */
export function awayMsUntil(nowMs: number): number | null {
  try {
    return Math.max(0, nowMs - statSync(ALIVE_FILE).mtimeMs)
  } catch {
    return null
  }
}

/** This one serves from now on. Where the folder can't be written to, the next one won't know. */
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
