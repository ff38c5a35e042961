import { existsSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { watchFileForChanges } from './watch-file.ts'

/** Envoy's routes, relative to the working directory, as in envoy/envoy.yaml. */
export const ROUTES_FILE = 'envoy/routes.yaml'
/** The folder that Envoy watches: `watched_directory` in envoy/envoy.yaml. */
const WATCHED_FOLDER = 'run'
const POLL_MS = 500

/**
 * Makes a saved `routes.yaml` live. Envoy's file watch notices renames only (Envoy doc: PathConfigSource), editors save
 * in place too: so Envoy watches the folder `run`, and a file renamed there tells it to read its routes again. A
 * processor that shares no such folder with Envoy has nothing to do.
 * @returns ends the watch
 */
export function announceRoutes(log: {
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
}): () => void {
  if (!existsSync(WATCHED_FOLDER) || !existsSync(ROUTES_FILE)) return () => undefined
  const announce = (): void => {
    try {
      const signal = join(WATCHED_FOLDER, 'routes-changed')
      writeFileSync(`${signal}.tmp`, '')
      renameSync(`${signal}.tmp`, signal)
    } catch (error) {
      log.warn(
        { file: ROUTES_FILE, error: (error as Error).message },
        "can't tell Envoy to read its routes again",
      )
    }
  }
  announce() // a change made while no processor ran
  return watchFileForChanges(ROUTES_FILE, POLL_MS, () => {
    log.info({ file: ROUTES_FILE }, 'routes changed, Envoy reads them again')
    announce()
  })
}
