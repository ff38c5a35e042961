import { isMap, isSeq, LineCounter, type Node, parseDocument } from 'yaml'

/** The three values of `envoy/envoy.yaml` that a launcher sets; all else stays the operator's, byte for byte. */
export interface EnvoyAddresses {
  readonly listen: { readonly host: string; readonly port: number }
  readonly admin: { readonly host: string; readonly port: number }
  /** `unix:PATH` or the host and port of the processor. */
  readonly processor: string | { readonly host: string; readonly port: number }
}

/** A step into a list names the entry's `name`. */
type Path = readonly string[]
const LISTEN: Path = ['static_resources', 'listeners', 'callback', 'address']
const ADMIN: Path = ['admin', 'address']
const PROCESSOR: Path = [
  'static_resources',
  'clusters',
  'processor',
  'load_assignment',
  'endpoints',
  '0',
  'lb_endpoints',
  '0',
  'endpoint',
  'address',
]

/**
 * `envoy.yaml` with its three addresses replaced in place.
 * @throws Error naming what is not where it was expected
 */
export function renderEnvoyConfig(text: string, addresses: EnvoyAddresses): string {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, keepSourceTokens: false })
  const [error] = document.errors
  if (error !== undefined)
    throw new Error(`envoy.yaml:${lines.linePos(error.pos[0]).line}: ${error.message.split('\n')[0]}`)
  const edits: [Path, string][] = [
    [LISTEN, socketAddress(addresses.listen)],
    [ADMIN, socketAddress(addresses.admin)],
    [PROCESSOR, processorAddress(addresses.processor)],
  ]
  return edits
    .map(([path, replacement]) => ({ range: rangeOf(text, document.contents, path), replacement }))
    .sort((a, b) => b.range[0] - a.range[0])
    .reduce(
      (rest, { range, replacement }) => rest.slice(0, range[0]) + replacement + rest.slice(range[1]),
      text,
    )
}

function socketAddress({ host, port }: { host: string; port: number }): string {
  return `{ socket_address: { address: "${host}", port_value: ${port} } }`
}

function processorAddress(processor: EnvoyAddresses['processor']): string {
  return typeof processor === 'string'
    ? `{ pipe: { path: ${JSON.stringify(processor.replace(/^unix:/, ''))} } }`
    : socketAddress(processor)
}

/** Where the value at `path` stands in the text, without the line end that a block value has at its end. */
function rangeOf(text: string, root: Node | null, path: Path): readonly [number, number] {
  let node: unknown = root
  for (const step of path) {
    if (isMap(node)) node = node.get(step, true)
    else if (isSeq(node))
      node = /^\d+$/.test(step)
        ? node.items[Number(step)]
        : node.items.find((item) => isMap(item) && item.get('name') === step)
    else node = undefined
    if (node === undefined || node === null)
      throw new Error(`envoy.yaml: expected ${path.join('.')}, found no ${step}`)
  }
  const range = (node as Node).range
  if (!range) throw new Error(`envoy.yaml: ${path.join('.')} is empty`)
  return [range[0], range[0] + text.slice(range[0], range[1]).trimEnd().length]
}
