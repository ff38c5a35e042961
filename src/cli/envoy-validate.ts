import { execFile } from 'node:child_process'
import { accessSync, constants, globSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parse, YAMLError } from 'yaml'
import type { Fault } from '../config/faults.ts'
import { type SourceFile, YamlFile } from '../xds/yaml-file.ts'

const run = promisify(execFile)
const TOOLS = fileURLToPath(new URL('../../.tools', import.meta.url))
const TIMEOUT_MS = 60_000
const OUTPUT_LENGTH_MAX = 4 * 1024 * 1024
/** Envoy repeats the whole configuration behind what is wrong with it. */
const MESSAGE_LENGTH_MAX = 500

/** The operator's own Envoy, of whatever version, else the one that was fetched for this project. */
export function findEnvoy(path: string): string | undefined {
  const candidates = [
    ...path
      .split(delimiter)
      .filter(Boolean)
      .map((folder) => join(folder, 'envoy')),
    ...globSync(join(TOOLS, 'envoy-*/envoy')).sort().reverse(),
  ]
  return candidates.find((candidate) => {
    try {
      accessSync(candidate, constants.X_OK)
      return statSync(candidate).isFile()
    } catch {
      return false
    }
  })
}

/** What Envoy says of its own files, at their places where it names them. Run it where Envoy would run. */
export async function validateWithEnvoy(
  binary: string,
  routes: SourceFile,
  bootstrap: SourceFile,
): Promise<Fault[]> {
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-validate-'))
  try {
    const path = join(folder, 'envoy.json')
    const complaint = async (routeConfiguration: object): Promise<string | undefined> => {
      writeFileSync(path, JSON.stringify(inlineRoutes(bootstrap.text, routeConfiguration)))
      return complaintOf(binary, path)
    }
    // First without any routes: what is wrong then is the bootstrap's own.
    const own = await complaint({ name: 'none' })
    if (own !== undefined) return [faultOf(own, bootstrap)]
    const said = await complaint(routesOf(routes.text))
    return said === undefined ? [] : [faultOf(said, routes)]
  } catch (error) {
    // What is no YAML was told before, with its place.
    if (error instanceof YAMLError) return []
    throw error
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** What is wrong with a configuration; undefined: nothing. */
async function complaintOf(binary: string, path: string): Promise<string | undefined> {
  const args = ['--mode', 'validate', '-c', path, '--log-level', 'critical', '--disable-hot-restart']
  try {
    await run(binary, args, { timeout: TIMEOUT_MS, maxBuffer: OUTPUT_LENGTH_MAX })
    return undefined
  } catch (error) {
    const { code, stderr = '', message } = error as { code?: unknown; stderr?: string; message: string }
    if (typeof code !== 'number') throw new Error(`can't run ${binary} (${code ?? message})`)
    const [, text] = /error initializing configuration '[^']*': (.*)/s.exec(stderr) ?? []
    return (text ?? message).replace(/: \{".*/s, '').trim()
  }
}

/** Where the inlined routes begin in a path that Envoy names. */
const INLINED = '.route_config.'

/** The place that Envoy names, `... @ static_resources.listeners[0].name: ...`, in the file it came from. */
function faultOf(text: string, source: SourceFile): Fault {
  const line = text.replaceAll(/\s+/g, ' ').slice(0, MESSAGE_LENGTH_MAX)
  const [, path, type, why] = /@ *([\w.[\]<>]+): (?:message )?(\S+), near [^)]+\): (.*?)\)?$/.exec(line) ?? []
  const message = `Envoy: ${why === undefined ? line : `${type}: ${why}`}`
  if (path === undefined) return { file: source.path, key: '', message }
  const file = new YamlFile(source)
  const inlinedAt = path.indexOf(INLINED)
  const inlined = inlinedAt !== -1
  let place = inlined ? file.items(file.at(file.root, 'resources'))[0] : file.root
  const steps = inlined ? path.slice(inlinedAt + INLINED.length) : path
  for (const step of steps
    .replaceAll('<any>.', '')
    .split(/[.[\]]+/)
    .filter(Boolean)) {
    const next = /^\d+$/.test(step) ? file.items(place)[Number(step)] : file.at(place, step)
    if (next === undefined) break
    place = next
  }
  const position = /:(\d+):(\d+)$/.exec(place === undefined ? '' : file.position(place))
  return {
    file: source.path,
    ...(position !== null && { line: Number(position[1]), column: Number(position[2]) }),
    key: place?.path ?? '',
    message,
  }
}

/** What Envoy's routes file holds, without the part that can't stand in a bootstrap. */
function routesOf(text: string): object {
  const { '@type': _, vhds: __, ...routes } = parse(text, { merge: true })?.resources?.[0] ?? {}
  return routes
}

/** The bootstrap with routes in place of their file, which `--mode validate` wouldn't open. */
function inlineRoutes(text: string, routes: object): unknown {
  const bootstrap = parse(text, { merge: true })
  for (const listener of bootstrap?.static_resources?.listeners ?? [])
    for (const chain of listener?.filter_chains ?? [])
      for (const { typed_config: manager } of chain?.filters ?? []) {
        if (manager?.rds === undefined) continue
        delete manager.rds
        manager.route_config = routes
      }
  return bootstrap
}
