import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { stringify } from 'yaml'
import { ROUTE_HEADER, UPSTREAMS } from '../ext-proc/messages.ts'
import { type Rules, type Upstream, upstreamsOf } from '../routing/rules.ts'
import type { SecretFile, UpstreamCluster } from '../xds/upstream.ts'
import type { FilterSettings } from './body-filters.ts'
import type { EnvoyDocument } from './envoy-document.ts'

/**
 * Zones that are reached by TLS or HTTP/2. Each way has a cluster beside `zones`, and a copy of the route `forward` in front of that,
 * which takes only addresses with the cluster in front. `forward` takes none of them: what is meant for TLS never goes in plain text.
 * The name that a certificate must have is in the metadata of the processor's answer, as the address is; a filter on the route that
 * asks puts it where Envoy looks for it.
 */

const HTTP = 'type.googleapis.com/envoy.extensions.filters.http'
const SECRET = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret'
/** In the metadata of the processor's answer: what routes are found by, and the address alone. */
const ADDRESS = 'zonegate:address'
const DIALLED = 'zonegate:dialled'
/** The filter state that has the former. */
const ADDRESS_STATE = 'zonegate.address'
/** Text of an address, as `forward` has it. */
const ADDRESS_PATTERN = String.raw`(?:(\d+\.){3}\d+:\d+|\[[0-9a-f:.]+\]:\d+)`
const HASH_LENGTH = 12

/** What there is to add to Envoy's routes. Messages are Envoy's, in proto3's JSON mapping. */
export interface GeneratedUpstreams {
  readonly routes: readonly UpstreamRoute[]
  /** Further settings of each route that asks. */
  readonly askSettings: FilterSettings
}

/** A copy of `forward` with these in place of its own. */
export interface UpstreamRoute {
  readonly cluster: string
  /** What stands in the header that routes are found by. */
  readonly header: object
  readonly settings: FilterSettings
}

/** Undefined where all zones are reached by HTTP/1.1 in plain text. */
export function generateUpstreams(rules: Rules): GeneratedUpstreams | undefined {
  const upstreams = upstreamsOf(rules)
  if (upstreams.length === 0) return undefined
  const clusters = upstreams.map(({ cluster }) => cluster).sort()
  return {
    routes: upstreams.map(({ cluster, http }) => ({
      cluster,
      header: {
        name: ROUTE_HEADER,
        string_match: { safe_regex: { regex: `${cluster.replaceAll('.', '[.]')}/${ADDRESS_PATTERN}` } },
      },
      settings: http === 2 ? STREAMED : {},
    })),
    askSettings: {
      ext_proc: {
        '@type': `${HTTP}.ext_proc.v3.ExtProcPerRoute`,
        overrides: { grpc_initial_metadata: [{ key: UPSTREAMS, value: clusters.join() }] },
      },
      route_again: {
        '@type': `${HTTP}.set_filter_state.v3.Config`,
        on_request_headers: [
          state(ADDRESS_STATE, `%DYNAMIC_METADATA(${ADDRESS})%`, 'envoy.string'),
          state('envoy.network.upstream_server_name', '%DYNAMIC_METADATA(zonegate:server_name)%'),
        ],
        clear_route_cache: true,
      },
    },
  }
}

/** Bodies are not read whole first. */
export const STREAMED: FilterSettings = {
  buffer: { '@type': `${HTTP}.buffer.v3.BufferPerRoute`, disabled: true },
}

/**
 * Has the operator's formats give the address alone where rules have an `upstream`: for their zones, `zonegate:address` has the
 * cluster in front. What routes are found by stays as it is.
 */
export function nameDialled(
  file: EnvoyDocument,
  node: unknown,
  isLeft: (mapping: unknown) => boolean = () => false,
): void {
  const isForRouting = (mapping: unknown): boolean =>
    file.text(mapping, 'key')?.toLowerCase() === ROUTE_HEADER ||
    file.text(mapping, 'object_key') === ADDRESS_STATE
  file.rewriteTexts(
    node,
    (text) => text.replaceAll(`DYNAMIC_METADATA(${ADDRESS}`, `DYNAMIC_METADATA(${DIALLED}`),
    (mapping) => isForRouting(mapping) || isLeft(mapping),
  )
}

/** Settings of one route by two that want something of the same filters. */
export function joinSettings(a: FilterSettings, b: FilterSettings): FilterSettings {
  const overrides = [a, b].map(({ ext_proc }) => (ext_proc as { overrides?: object } | undefined)?.overrides)
  const [first, second] = overrides
  if (first === undefined || second === undefined) return { ...a, ...b }
  return { ...a, ...b, ext_proc: { ...a['ext_proc'], overrides: { ...first, ...second } } }
}

function state(object_key: string, format: string, factory_key?: string): object {
  return {
    object_key,
    ...(factory_key !== undefined && { factory_key }),
    format_string: { text_format_source: { inline_string: format }, omit_empty_values: true },
    skip_if_empty: true,
  }
}

/** A cluster as Envoy is sent it, which finds its certificates in files in `folder`. */
export function upstreamCluster({ cluster, tls, http }: Upstream, folder: string): UpstreamCluster {
  const file = (name: string): SecretFile => ({ name, path: join(folder, `${name}.yaml`) })
  return {
    cluster,
    http,
    tls: tls && {
      ca: file(nameOf('ca', tls.ca)),
      client: tls.client && file(nameOf('certificate', tls.client)),
    },
  }
}

/**
 * Files by which Envoy finds certificates and keys, and sees when they change: paths alone, so that no key goes by way of the processor.
 * By name, in the folder of what Envoy reads.
 */
export function secretFiles(upstreams: readonly Upstream[]): Readonly<Record<string, string>> {
  const files: Record<string, string> = {}
  const add = (name: string, content: object): void => {
    const secret = { '@type': SECRET, name, ...content }
    const comment = `# run/${name}.yaml: made by "zonegate render" from zonegate.yaml. Envoy reads the files below again when something\n# is renamed into the folder.\n`
    files[`${name}.yaml`] = `${comment}${stringify({ resources: [secret] })}`
  }
  for (const { tls } of upstreams) {
    if (tls === null) continue
    const filename = tls.ca ?? systemCa()
    add(nameOf('ca', tls.ca), {
      validation_context: {
        trusted_ca: { filename },
        watched_directory: { path: dirname(filename) },
      },
    })
    if (tls.client !== null) {
      const { cert, key } = tls.client
      add(nameOf('certificate', tls.client), {
        tls_certificate: {
          certificate_chain: { filename: cert },
          private_key: { filename: key },
          watched_directory: { path: dirname(cert) },
        },
      })
    }
  }
  return files
}

/**
 * The file with the CAs of this machine, as it is Envoy's, too, or of Envoy's image. Envoy has a word for it (`system_root_certs`), but
 * Envoy 1.40 refuses that beside `auto_sni_san_validation`.
 */
export function systemCa(): string {
  return SYSTEM_CA_FILES.find((path) => existsSync(path)) ?? SYSTEM_CA_FILES[0]
}

const SYSTEM_CA_FILES = [
  '/etc/ssl/certs/ca-certificates.crt', // Debian, Alpine, Arch, and Envoy's own images
  '/etc/pki/tls/certs/ca-bundle.crt', // Fedora, RHEL
  '/etc/ssl/ca-bundle.pem', // openSUSE
  '/etc/ssl/cert.pem', // macOS, BSD
] as const

/** True for the name of a file that `secretFiles` may have made. */
export function isSecretFile(name: string): boolean {
  return /^upstream-(?:ca|certificate)\.[0-9a-f]+\.yaml$/.test(name)
}

function nameOf(kind: 'ca' | 'certificate', what: unknown): string {
  const hash = createHash('sha256').update(JSON.stringify(what)).digest('hex').slice(0, HASH_LENGTH)
  return `upstream-${kind}.${hash}`
}
