import { execFile } from 'node:child_process'
import { accessSync, constants, globSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parse, YAMLError } from 'yaml'
import type { OperatorFiles } from '../config/envoy-files.ts'
import type { Fault } from '../config/faults.ts'
import { RenderError } from '../envoy-files/envoy-document.ts'
import type { Generated } from '../envoy-files/generated.ts'
import { type Rendered, render } from '../envoy-files/render.ts'
import { type Place, type SourceFile, YamlFile } from '../xds/yaml-file.ts'

const run = promisify(execFile)
const TOOLS = fileURLToPath(new URL('../../.tools', import.meta.url))
const TIMEOUT_MS = 60_000
/** Stands for the configuration in errors of what the rules generate. It may have another name, or be the defaults. */
const ZONEGATE_YAML = 'zonegate.yaml'
const OUTPUT_LENGTH_MAX = 4 * 1024 * 1024
/** Envoy appends the whole configuration to its message. */
const MESSAGE_LENGTH_MAX = 500

/** The Envoy in PATH, whatever its version, else the one that this project has fetched. */
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

/** What Envoy finds wrong with its files, with places where it names them. Run it where Envoy would run. */
export async function validateWithEnvoy(
  binary: string,
  files: OperatorFiles,
  generated: Generated,
): Promise<Fault[]> {
  const { routes, clusters, listener, bootstrap } = files
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-validate-'))
  try {
    const path = join(folder, 'envoy.json')
    const complaint = async (content: Inlined, text = bootstrap.text): Promise<string | undefined> => {
      writeFileSync(path, JSON.stringify(inlined(text, content)))
      return complaintOf(binary, path)
    }
    const cluster = clusterOf(clusters.text)
    const rendered = renderedOrNot(files, generated)
    // The processor makes these from the operator's cluster.
    const others = generated.upstreams?.routes.map(({ cluster: name }) => ({ ...cluster, name })) ?? []
    // What Envoy would read, all at once: nearly always it has nothing against it, and then this is all.
    const all =
      rendered &&
      (await complaint(
        {
          listeners: resourcesOf(rendered.listener),
          routes: routesOf(rendered.routes),
          clusters: [cluster, ...others],
        },
        rendered.bootstrap,
      ))
    if (rendered !== undefined && all === undefined) return []

    // Which file? First the bootstrap alone, then with one more file each time. A new complaint is about the file that was added.
    const content: Inlined = { listeners: [], routes: { name: 'none' }, clusters: [] }
    const own = await complaint(content)
    if (own !== undefined) return [faultOf(own, bootstrap)]
    content.listeners = resourcesOf(listener.text)
    const ofListener = await complaint(content)
    if (ofListener !== undefined) return [faultOf(ofListener, listener)]
    content.clusters = [cluster]
    const ofCluster = await complaint(content)
    if (ofCluster !== undefined) return [faultOf(ofCluster, clusters)]
    content.routes = routesOf(routes.text)
    const ofRoutes = await complaint(content)
    if (ofRoutes !== undefined) return [faultOf(ofRoutes, routes)]
    return all === undefined
      ? []
      : [
          {
            file: ZONEGATE_YAML,
            key: 'rules',
            message: `Envoy rejects what these rules generate: ${lineOf(all)}`,
          },
        ]
  } catch (error) {
    if (error instanceof YAMLError) return [] // checkEnvoyFiles has reported it, with its place
    throw error
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Undefined for what can't be rendered: checkEnvoyFiles has reported it, with its place. */
function renderedOrNot(files: OperatorFiles, generated: Generated): Rendered | undefined {
  try {
    return render(files, generated, { processor: 'unix:run/processor.sock' })
  } catch (error) {
    if (error instanceof YAMLError || error instanceof RenderError) return undefined
    throw error
  }
}

/** What is wrong with a configuration. Undefined if nothing is. */
async function complaintOf(binary: string, path: string): Promise<string | undefined> {
  const args = ['--mode', 'validate', '-c', path, '--log-level', 'critical', '--disable-hot-restart']
  try {
    await run(binary, args, { timeout: TIMEOUT_MS, maxBuffer: OUTPUT_LENGTH_MAX })
    return undefined
  } catch (error) {
    const { code, stderr = '', message } = error as { code?: unknown; stderr?: string; message: string }
    if (typeof code !== 'number') throw new Error(`${binary} does not run (${code ?? message})`)
    const [, text] = /error initializing configuration '[^']*': (.*)/s.exec(stderr) ?? []
    return (text ?? message).replace(/: \{".*/s, '').trim()
  }
}

/** Where the inlined part begins in a path that Envoy names. */
const INLINED = /(?:\.route_config|^static_resources\.clusters\[0\])\./
/** Prefix of a path into listener.yaml, which is inlined. */
const LISTENER = /^static_resources\.listeners\[(\d+)\]\./

/** Finds the place that Envoy names, `... @ static_resources.listeners[0].name: ...`, in the file that it came from. */
function faultOf(text: string, source: SourceFile): Fault {
  const line = lineOf(text)
  const [, path, type, why] =
    /@ *([\w.[\]<>]+): (?:message )?(\S+), near [^)]+\): (.*?)(?:\)(?: has unknown fields)?)?$/.exec(line) ??
    []
  const message = `Envoy: ${why === undefined ? line : `${type}: ${why}`}`
  if (path === undefined) return { file: source.path, key: '', message }
  const file = new YamlFile(source)
  const resources = file.items(file.at(file.root, 'resources'))
  const inlined = resources.length === 0 ? null : (INLINED.exec(path) ?? LISTENER.exec(path))
  let place: Place | undefined = inlined === null ? file.root : resources[Number(inlined[1] ?? 0)]
  const steps = inlined === null ? path : path.slice(inlined.index + inlined[0].length)
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

function lineOf(text: string): string {
  return text.replaceAll(/\s+/g, ' ').slice(0, MESSAGE_LENGTH_MAX)
}

/** The route configuration of the file, without fields that a bootstrap may not have. */
function routesOf(text: string): object {
  const { '@type': _, vhds: __, ...routes } = parse(text)?.resources?.[0] ?? {}
  return routes
}

function clusterOf(text: string): object {
  return resourcesOf(text)[0] ?? {}
}

function resourcesOf(text: string): object[] {
  return (parse(text)?.resources ?? []).map(
    ({ '@type': _, ...resource }: Record<string, unknown>) => resource,
  )
}

/** What Envoy reads from other files than the bootstrap. */
interface Inlined {
  listeners: readonly object[]
  /** The route configuration. */
  routes: object
  /** Those of the cold path. */
  clusters: readonly object[]
}

function inlined(text: string, { listeners, routes, clusters }: Inlined): unknown {
  const bootstrap = parse(text)
  const resources = bootstrap?.static_resources
  resources?.clusters?.unshift(...clusters)
  delete bootstrap?.dynamic_resources?.lds_config
  resources?.listeners?.unshift(...structuredClone(listeners))
  for (const listener of resources?.listeners ?? [])
    for (const chain of listener?.filter_chains ?? [])
      for (const { typed_config: manager } of chain?.filters ?? []) {
        if (manager?.rds === undefined) continue
        delete manager.rds
        manager.route_config = routes
      }
  return bootstrap
}
