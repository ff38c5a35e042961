import { existsSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { watchFileForChanges } from './watch-file.ts'

/** Envoy's routes, relative to the working directory, as in envoy/envoy.yaml. */
export const ROUTES_FILE = 'envoy/routes.yaml'
const POLL_MS = 500

/**
 * Makes a saved `routes.yaml` live. Envoy's file watch notices renames only (Envoy doc: PathConfigSource), editors save
 * in place too: so Envoy watches the socket's folder, and a file renamed there tells it to read its routes again.
 * @param listen `listen.grpc`; over TCP there is no folder that both sides have, and nothing to do
 * @returns ends the watch
 */
export function announceRoutes(
  listen: string,
  log: { info(fields: object, text: string): void; warn(fields: object, text: string): void },
): () => void {
  if (!listen.startsWith('unix:') || !existsSync(ROUTES_FILE)) return () => undefined
  const folder = dirname(listen.slice('unix:'.length))
  const announce = (): void => {
    try {
      const signal = join(folder, 'routes-changed')
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
