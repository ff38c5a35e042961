import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Generated } from './generated.ts'
import { type Addresses, type EnvoyFiles, type Rendered, render } from './render.ts'
import { type ZoneOfKey, zonesOfKeysIn } from './zone-of-key.ts'

/** The operator's files, relative to the working directory. */
export const ENVOY_FOLDER = 'envoy'
/** The folder with the rendered files, which Envoy reads, and with its sockets. */
export const RUN_FOLDER = 'run'
const FILE_NAMES = {
  bootstrap: 'envoy.yaml',
  listener: 'listener.yaml',
  routes: 'routes.yaml',
  clusters: 'clusters.yaml',
} as const satisfies Record<keyof EnvoyFiles, string>
/** The files that Envoy reads. */
const RENDERED_FILES = ['bootstrap', 'listener', 'routes'] as const satisfies (keyof Rendered)[]
export type RenderedFile = (typeof RENDERED_FILES)[number]

/** Paths of the operator's files in a folder. */
export function pathsIn(folder: string): Record<keyof EnvoyFiles, string> {
  const { bootstrap, listener, routes, clusters } = FILE_NAMES
  return {
    bootstrap: join(folder, bootstrap),
    listener: join(folder, listener),
    routes: join(folder, routes),
    clusters: join(folder, clusters),
  }
}

/** @throws Error if a file can't be read */
export function readEnvoyFiles(folder: string, shown = folder): EnvoyFiles {
  const file = (name: string) => ({
    path: join(shown, name),
    text: readEnvoyFile(join(folder, name), join(shown, name)),
  })
  return {
    bootstrap: file(FILE_NAMES.bootstrap),
    listener: file(FILE_NAMES.listener),
    routes: file(FILE_NAMES.routes),
    clusters: file(FILE_NAMES.clusters),
  }
}

/**
 * @param shown the path for messages
 * @throws Error that names the file and says what to do
 */
export function readEnvoyFile(path: string, shown = path): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT') throw new Error(`${shown}: ${message}`)
    throw new Error(
      `${shown}: no such file; take it from envoy/ of this version (CHANGELOG.md, "To upgrade")`,
    )
  }
}

/**
 * Renders the files for Envoy from the operator's files in a working directory.
 * @returns names of the files that were written
 * @throws RenderError for a fault in a file; Error if a file can't be read
 */
export function renderFolder(cwd: string, generated: Generated, addresses: Addresses): string[] {
  const files = readEnvoyFiles(join(cwd, ENVOY_FOLDER), ENVOY_FOLDER)
  const folder = join(cwd, RUN_FOLDER)
  return writeRendered(folder, render(files, generated, addresses, earlierZonesOfKeys(folder)))
}

/** Cluster specifiers in the rendered routes: Envoy has them now, or had them a short time ago. */
export function earlierZonesOfKeys(folder: string): ZoneOfKey[] {
  try {
    return zonesOfKeysIn(textBefore(folder, 'routes') ?? '')
  } catch {
    return [] // Envoy can't read this file, either
  }
}

/** The current text of a rendered file; undefined: there is no file. */
export function textBefore(folder: string, file: RenderedFile): string | undefined {
  return textAt(join(folder, FILE_NAMES[file]))
}

export function textAt(path: string): string | undefined {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined
}

/**
 * Writes the files that changed. It renames a complete file into place, and Envoy notices the rename.
 * @returns names of the files that were written
 */
export function writeRendered(folder: string, rendered: Partial<Rendered>): string[] {
  mkdirSync(folder, { recursive: true })
  return filesOf(rendered).flatMap(([name, text]) => {
    const path = join(folder, name)
    if (text === textAt(path)) return []
    const scratch = `${path}.${process.pid}.tmp`
    try {
      writeFileSync(scratch, text)
      renameSync(scratch, path)
    } catch (error) {
      rmSync(scratch, { force: true })
      throw error
    }
    return [name]
  })
}

/** Names in `run/` and texts. A file comes before the files that name it. */
export function filesOf({ secrets = {}, ...rendered }: Partial<Rendered>): [name: string, text: string][] {
  const others = RENDERED_FILES.flatMap((file): [string, string][] => {
    const text = rendered[file]
    return text === undefined ? [] : [[FILE_NAMES[file], text]]
  })
  return [...Object.entries(secrets), ...others]
}
