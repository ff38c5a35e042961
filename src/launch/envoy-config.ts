import { isMap, isSeq, LineCounter, type Node, parseDocument } from 'yaml'
import { carried } from '../routing/denied-addresses.ts'

/** What a launcher sets in `envoy/envoy.yaml`; all else stays the operator's, byte for byte. */
export interface EnvoyAddresses {
  readonly listen: { readonly host: string; readonly port: number }
  readonly admin: { readonly host: string; readonly port: number }
  /** `unix:PATH` or the host and port of the processor. */
  readonly processor: string | { readonly host: string; readonly port: number }
  /** `addresses.allow` of zonegate.yaml, for Envoy's own fence; none: it stays as it is in the file. */
  readonly allow?: readonly string[]
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
const ALLOWED: Path = [
  'static_resources',
  'clusters',
  'zones',
  'typed_extension_protocol_options',
  'envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
  'http_filters',
  'envoy.filters.http.upstream_rbac',
  'typed_config',
  'rules',
  'policies',
  'allowed',
  'permissions',
]

/**
 * `envoy.yaml` with its addresses replaced in place.
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
  const { allow = [] } = addresses
  // Two spaces: a list in block style may begin in the column of its key, one in brackets may not.
  if (allow.length > 0) edits.push([ALLOWED, `  [${allow.flatMap(carried).map(upstreamIp).join(', ')}]`])
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

/** A permission of Envoy's RBAC for the addresses of a CIDR. */
function upstreamIp(cidr: string): string {
  const [address, prefix] = cidr.split('/')
  const type = 'type.googleapis.com/envoy.extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher'
  const range = `{ address_prefix: "${address}", prefix_len: ${prefix} }`
  return `{ matcher: { name: upstream_ip, typed_config: { "@type": ${type}, upstream_ip: ${range} } } }`
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
