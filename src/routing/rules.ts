import type { RejectReason } from './reject-reason.ts'

/** What of a request decides: as received, before any rewrite. */
export interface RequestHead {
  readonly method: string
  /** Path and query, as on the request line. */
  readonly path: string
  /** All values of the id header, in order; Envoy stands in `-` for a missing one. */
  readonly ids: readonly string[]
}

/** The rules, completed once from `rules` of zonegate.yaml. */
export interface Rules {
  /** Lower-case name of the header that carries the id. */
  readonly header: string
  readonly methods: ReadonlySet<string>
  readonly idPattern: RegExp
  /** With `{id}`, `{service}` and `{search}`. */
  readonly host: string
  /** Literal path → service. */
  readonly serviceByPath: ReadonlyMap<string, Service>
  /** The service of every other path. */
  readonly fallback: Service
}

export interface Service {
  readonly name: string
  /** Port of the service's receivers. */
  readonly port: number
}

/** A zone: one id of one service. */
export interface Zone {
  readonly id: string
  readonly service: Service
  /** Absolute host name, lower case, no final dot. */
  readonly name: string
}

/** The longest label and the longest name, in octets as text (RFC 1035 section 2.3.4; RFC 1123 section 2.1 for the letters). */
const LABEL = /^(?!-)[a-z0-9-]{1,63}(?<!-)$/
const NAME_LENGTH_MAX = 253

/**
 * The whole rule, in the order of the OpenResty recipe: method, id, service, name. Pure; what DNS says of the name
 * comes afterwards (decision.ts).
 */
export function zoneOf(head: RequestHead, rules: Rules, search: string): Zone | RejectReason {
  if (!rules.methods.has(head.method)) return 'method_not_allowed'

  const [id = ''] = head.ids
  if (head.ids.length > 1) return 'server_header_invalid'
  if (id === '' || id === '-') return 'server_header_missing'
  if (id.includes(',') || !rules.idPattern.test(id)) return 'server_header_invalid'

  const service = rules.serviceByPath.get(pathOf(head.path)) ?? rules.fallback
  const name = nameOf(rules.host, id, service.name, search)
  return name === null ? 'server_header_invalid' : { id: id.toLowerCase(), service, name }
}

/** The zone of a service and an id that were told apart before; null where the rules have no such zone. */
export function zoneOfRef(service: string, id: string, rules: Rules, search: string): Zone | null {
  const known = servicesOf(rules).find(({ name }) => name === service)
  if (known === undefined || id.includes(',') || !rules.idPattern.test(id)) return null
  const name = nameOf(rules.host, id, service, search)
  return name === null ? null : { id: id.toLowerCase(), service: known, name }
}

/** Every service once, with its paths; the fallback has none. */
export function servicesOf(rules: Rules): (Service & { paths: string[] })[] {
  const services = new Map<string, Service & { paths: string[] }>()
  for (const [path, service] of rules.serviceByPath) {
    const known = services.get(service.name) ?? { ...service, paths: [] }
    known.paths.push(path)
    services.set(service.name, known)
  }
  return [...services.values(), { ...rules.fallback, paths: [] }]
}

/** The literal path before `?`: no decoding and no normalisation, so `/mail/` and `/%6dail` are not `/mail`. */
function pathOf(path: string): string {
  const query = path.indexOf('?')
  return query === -1 ? path : path.slice(0, query)
}

/** Fills in the pattern; null when that makes no host name. */
function nameOf(pattern: string, id: string, service: string, search: string): string | null {
  const name = fillHost(pattern, id, service, search)
  if (name.length > NAME_LENGTH_MAX) return null
  return name.split('.').every((label) => LABEL.test(label)) ? name : null
}

/** The pattern with its placeholders filled in, in lower case, whatever that makes. */
export function fillHost(pattern: string, id: string, service: string, search: string): string {
  const values: Readonly<Record<string, string>> = { id, service, search }
  return pattern.replace(/\{(id|service|search)\}/g, (_, key: string) => values[key] ?? '').toLowerCase()
}
