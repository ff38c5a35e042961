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
 * Zones with TLS or HTTP/2. Each combination of settings has its own cluster and its own copy of the route `forward`. For these zones
 * the processor answers `cluster/address`. The copy matches only answers with its cluster, and `forward` matches only bare addresses,
 * so a request for a TLS zone never goes out in plain text. The processor's answer also has the name that the certificate must have:
 * a filter on the route that asks copies it to where Envoy looks for it.
 */

const HTTP = 'type.googleapis.com/envoy.extensions.filters.http'
const SECRET = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret'
/** Metadata of the processor's answer: the value that routes match, and the address alone. */
const ADDRESS = 'zonegate:address'
const DIALLED = 'zonegate:dialled'
/** The filter state with the value that routes match. */
const ADDRESS_STATE = 'zonegate.address'
/** The pattern of an address, as in the route `forward`. */
const ADDRESS_PATTERN = String.raw`(?:(\d+\.){3}\d+:\d+|\[[0-9a-f:.]+\]:\d+)`
const HASH_LENGTH = 12

/** Additions to Envoy's routes: messages of Envoy in proto3's JSON mapping. */
export interface GeneratedUpstreams {
  readonly routes: readonly UpstreamRoute[]
  /** Further settings of each route that asks. */
  readonly askSettings: FilterSettings
}

/** Changes to a copy of `forward`. */
export interface UpstreamRoute {
  readonly cluster: string
  /** The condition on the header that has the processor's answer. */
  readonly header: object
  readonly settings: FilterSettings
}

/** Undefined: all zones speak HTTP/1.1 in plain text. */
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

/** Envoy forwards a body while it arrives, without buffering the whole. */
export const STREAMED: FilterSettings = {
  buffer: { '@type': `${HTTP}.buffer.v3.BufferPerRoute`, disabled: true },
}

/**
 * Makes the operator's formats use the address without the cluster's name: if a rule has `upstream`, `zonegate:address` begins with
 * the cluster's name. The values that routes match stay unchanged.
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

/** Merges two sets of filter settings for the same route. */
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

/** The cluster to send to Envoy. Its certificates are in files in `folder`. */
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
 * Files that tell Envoy where certificates and keys are, and which folders to watch for changes. They have only paths, so the
 * processor never handles a key. Texts by file name in `run/`.
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
 * The file with this machine's CAs; if there is none, its path in Envoy's image. Envoy has a setting for it (`system_root_certs`), but
 * Envoy 1.40 refuses it together with `auto_sni_san_validation`.
 */
function systemCa(): string {
  return SYSTEM_CA_FILES.find((path) => existsSync(path)) ?? SYSTEM_CA_FILES[0]
}

const SYSTEM_CA_FILES = [
  '/etc/ssl/certs/ca-certificates.crt', // Debian, Alpine, Arch, and Envoy's own images
  '/etc/pki/tls/certs/ca-bundle.crt', // Fedora, RHEL
  '/etc/ssl/ca-bundle.pem', // openSUSE
  '/etc/ssl/cert.pem', // macOS, BSD
] as const

/** True for names of files that `secretFiles` makes. */
export function isSecretFile(name: string): boolean {
  return /^upstream-(?:ca|certificate)\.[0-9a-f]+\.yaml$/.test(name)
}

function nameOf(kind: 'ca' | 'certificate', what: unknown): string {
  const hash = createHash('sha256').update(JSON.stringify(what)).digest('hex').slice(0, HASH_LENGTH)
  return `upstream-${kind}.${hash}`
}
