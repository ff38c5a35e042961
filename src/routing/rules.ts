import { headersRead, type IdReading, type IdSource, isBodySource, readId } from './id-sources.ts'
import { fits, type Pattern } from './patterns.ts'
import type { RejectReason } from './reject-reason.ts'
import { hostOf, pathOf, type RequestHead } from './request-head.ts'
import { NOTHING_SAID, type Said, type SaidOfZones } from './said.ts'

export { pathOf, type RequestHead } from './request-head.ts'

/** The rules from zonegate.yaml. The first rule that fits a request decides. */
export type Rules = readonly Rule[]

export interface Rule {
  readonly name: string
  /** The rule's name with a dot, like `pay.`. Empty if there is only one rule and it fits everything. */
  readonly prefix: string
  /** An absent part fits everything. */
  readonly match: { readonly paths?: readonly Pattern[]; readonly hosts?: readonly Pattern[] }
  readonly methods: ReadonlySet<string>
  /** The id is from the first of these sources that the request has. */
  readonly sources: readonly IdSource[]
  readonly idPattern: RegExp
  /** The pattern of a zone's host name, with `{id}`, `{service}` and `{search}`. */
  readonly host: string
  /** Literal path → service. */
  readonly serviceByPath: ReadonlyMap<string, Service>
  /** The service of every other path. */
  readonly fallback: Service
  /** The longest body in which a rule looks for an id, octets. */
  readonly bodyMaxBytes: number
  /** `learned.sharedRoutes`: many ids share a virtual host in Envoy. */
  readonly sharesRoutes: boolean
}

export interface Service {
  /** Unique among the services of all rules: `mail`, `pay`, `pay.mail`. */
  readonly name: string
  /** What `{service}` stands for: `mail`. */
  readonly label: string
  /** Name of its rule. */
  readonly rule: string
  /** Port of the service's receivers. 0 with `srv`: each address then has its own port. */
  readonly port: number
  /** Pattern of the name of their SRV records, with `{name}`, `{id}`, `{service}` and `{search}`. */
  readonly srv?: string
  /** Absent: HTTP/1.1 in plain text. */
  readonly upstream?: Upstream
}

/** A zone: one id of one service. */
export interface Zone {
  readonly id: string
  readonly service: Service
  /** The name that DNS is asked for: absolute, lower case, no final dot. With `srv` it is the name of the SRV records. */
  readonly name: string
  /** The name that the receivers' certificate must have, with TLS: absolute, lower case, no final dot. */
  readonly serverName?: string
  /** The settings of this zone in `zones` and pins. */
  readonly said?: Said
  /** The request's own id, if that is not in DNS and this is the fallback zone. */
  readonly insteadOf?: string
}

/** A request that goes to no zone. */
export interface Refusal {
  readonly reason: RejectReason
  /** The rule that fits it. */
  readonly rule?: Rule
}

/** The longest label and the longest name, in octets as text (RFC 1035 section 2.3.4; RFC 1123 section 2.1 for the letters). */
const LABEL = /^(?!-)[a-z0-9-]{1,63}(?<!-)$/
const NAME_LENGTH_MAX = 253
/** A label that may begin with an underscore (RFC 8552). */
const SRV_LABEL = /^(?=.{1,63}$)_?(?!-)[a-z0-9-]+(?<!-)$/
/**
 * Whatever `idPattern` allows, an id is part of one label: a dot in it could lead to another domain. Envoy writes a lone hyphen
 * for a missing value.
 */
const ID = /^(?!-$)[A-Za-z0-9-]{1,63}$/

/** The rule that decides a request; undefined: no rule fits. */
export function ruleOf(head: RequestHead, rules: Rules): Rule | undefined {
  const path = pathOf(head.path)
  return rules.find(
    ({ match: { paths, hosts } }) =>
      (paths === undefined || paths.some((pattern) => fits(pattern, path))) &&
      (hosts === undefined || hosts.some((pattern) => fits(pattern, hostOf(head.authority)))),
  )
}

/**
 * The decision without DNS, in this order: rule, method, id, service, name. Pure; decision.ts adds the DNS answer.
 */
export function zoneOf(
  head: RequestHead,
  rules: Rules,
  search: string,
  said: SaidOfZones = NOTHING_SAID,
): Zone | Refusal {
  const rule = ruleOf(head, rules)
  if (rule === undefined) return { reason: 'no_rule' }
  if (!rule.methods.has(head.method)) return { reason: 'method_not_allowed', rule }
  const { reading } = idOf(head, rule)
  if (reading.kind === 'absent') return { reason: missingReason(rule), rule }
  const invalid: Refusal = { reason: invalidReason(rule), rule }
  if (reading.kind !== 'id') return invalid
  const { id } = reading
  if (!isId(id, rule)) return invalid
  const service = rule.serviceByPath.get(pathOf(head.path)) ?? rule.fallback
  return zoneBy(rule, service, id, search, said) ?? invalid
}

/** The zone of an id that the rule allows. Null: the id makes no valid name, or its zone was merged into one whose id the rule forbids. */
function zoneBy(rule: Rule, service: Service, text: string, search: string, said: SaidOfZones): Zone | null {
  const id = text.toLowerCase()
  const what = said.of(service, id)
  const nameId = what?.merged?.id ?? id
  if (nameId !== id && !isId(nameId, rule)) return null
  const name = nameOf(rule.host, nameId, service, search)
  const serverName = serverNameOf(rule, service, nameId, search)
  if (name === null || serverName === null) return null
  return {
    id,
    service,
    name,
    ...(serverName !== undefined && { serverName }),
    ...(what !== undefined && { said: what }),
  }
}

/**
 * The name that the receivers' certificate must have. This is always a host name, even if the zone uses SRV records.
 * @returns undefined for a service without TLS; null if the pattern makes no valid host name
 */
function serverNameOf(
  rule: Rule,
  { label, upstream }: Service,
  id: string,
  search: string,
): string | null | undefined {
  if (upstream === undefined || upstream.tls === null) return undefined
  return nameOf(upstream.tls.serverName ?? rule.host, id, { label }, search)
}

/** Like `serverNameOf`, without a check of the result. */
export function fillServerName(
  { host }: Rule,
  { label, upstream }: Service,
  id: string,
  search: string,
): string {
  return fillHost(upstream?.tls?.serverName ?? host, id, label, search)
}

export function isZone(outcome: Zone | Refusal): outcome is Zone {
  return 'service' in outcome
}

/** The id of a request, and its source: the first source that the request has. If it has none, the last source with `absent`. */
export function idOf(head: RequestHead, rule: Rule): { reading: IdReading; source: IdSource } {
  let last: { reading: IdReading; source: IdSource } | undefined
  for (const source of rule.sources) {
    last = { reading: readId(head, source), source }
    if (last.reading.kind !== 'absent') return last
  }
  if (last === undefined) throw new Error('the schema lets through only rules with a source')
  return last
}

/** True if the rule has a source in the body, so that Envoy must send the body. */
export function looksIntoBody(rule: Rule): boolean {
  return rule.sources.some(isBodySource)
}

/** Names of the request headers that the rules read. */
export function headersOf(rules: Rules): string[] {
  return [...new Set(rules.flatMap(({ sources }) => sources.flatMap(headersRead)))]
}

/** True for letters, digits and hyphens that the rule's `idPattern` allows. */
export function isId(text: string, rule: Rule): boolean {
  return ID.test(text) && rule.idPattern.test(text)
}

/** A rule with one header as its only source keeps the reasons of the first version, when there was no other source. */
function hasOnlyHeader({ sources }: Rule): boolean {
  return sources.length === 1 && sources[0]?.kind === 'header'
}

function missingReason(rule: Rule): RejectReason {
  return hasOnlyHeader(rule) ? 'server_header_missing' : 'id_missing'
}

function invalidReason(rule: Rule): RejectReason {
  return hasOnlyHeader(rule) ? 'server_header_invalid' : 'id_invalid'
}

/** The zone of a service and an id; null: the rules allow no such zone. */
export function zoneOfRef(
  service: string,
  id: string,
  rules: Rules,
  search: string,
  said: SaidOfZones = NOTHING_SAID,
): Zone | null {
  for (const rule of rules) {
    const known = servicesOf(rule).find(({ name }) => name === service)
    if (known === undefined) continue
    return isId(id, rule) ? zoneBy(rule, known, id, search, said) : null
  }
  return null
}

/** A name for a zone in logs. It works even if the rules no longer allow the zone. */
export function zoneNameOf(
  service: string,
  id: string,
  rules: Rules,
  search: string,
  said: SaidOfZones = NOTHING_SAID,
): string {
  for (const rule of rules) {
    const known = servicesOf(rule).find(({ name }) => name === service)
    if (known === undefined) continue
    return fillName(rule.host, said.of(known, id)?.merged?.id ?? id, known, search)
  }
  return `${service}/${id}`
}

type ServiceWithPaths = Service & { readonly paths: readonly string[] }

/** Kept, because work for all zones asks for them once for each zone. */
const SERVICES = new WeakMap<Rule, readonly ServiceWithPaths[]>()

/** Each service of a rule, with its paths; the fallback service has none. */
export function servicesOf(rule: Rule): readonly ServiceWithPaths[] {
  const services = SERVICES.get(rule) ?? readServices(rule)
  SERVICES.set(rule, services)
  return services
}

function readServices({ serviceByPath, fallback }: Rule): ServiceWithPaths[] {
  const services = new Map<string, Service & { paths: string[] }>()
  for (const [path, service] of serviceByPath) {
    const known = services.get(service.name) ?? { ...service, paths: [] }
    known.paths.push(path)
    services.set(service.name, known)
  }
  return [...services.values(), { ...fallback, paths: [] }]
}

/** The different upstream settings of all services; empty if all use HTTP/1.1 in plain text. */
export function upstreamsOf(rules: Rules): Upstream[] {
  const upstreams = rules.flatMap(servicesOf).flatMap(({ upstream }) => upstream ?? [])
  return [...new Map(upstreams.map((upstream) => [upstream.cluster, upstream])).values()]
}

/** The parts of a service that occur in names of its zones. */
export type NamedService = Pick<Service, 'label' | 'srv'>

/** Fills in the patterns; null: the result is not a valid name. */
export function nameOf(host: string, id: string, service: NamedService, search: string): string | null {
  const name = fillHost(host, id, service.label, search)
  if (name.length > NAME_LENGTH_MAX || !name.split('.').every((label) => LABEL.test(label))) return null
  if (service.srv === undefined) return name
  const ofService = fillSrv(service.srv, name, id, service, search)
  if (ofService.length > NAME_LENGTH_MAX) return null
  return ofService.split('.').every((label) => SRV_LABEL.test(label)) ? ofService : null
}

/** Like `nameOf`, without a check of the result. */
export function fillName(host: string, id: string, service: NamedService, search: string): string {
  const name = fillHost(host, id, service.label, search)
  return service.srv === undefined ? name : fillSrv(service.srv, name, id, service, search)
}

/** Like `fillName`, without SRV. */
export function fillHost(host: string, id: string, service: string, search: string): string {
  const values: Readonly<Record<string, string>> = { id, service, search }
  return host.replace(/\{(id|service|search)\}/g, (_, key: string) => values[key] ?? '').toLowerCase()
}

function fillSrv(srv: string, name: string, id: string, service: NamedService, search: string): string {
  return fillHost(srv.replaceAll('{name}', name), id, service.label, search)
}

/** How Envoy reaches the receivers of a service that do not use HTTP/1.1 in plain text. */
export interface Upstream {
  /** The Envoy cluster for cold requests. Equal settings share a cluster. */
  readonly cluster: string
  readonly tls: UpstreamTls | null
  /** With 2, Envoy streams bodies. */
  readonly http: 1 | 2
}

/** Paths of PEM files, as Envoy sees them. */
export interface UpstreamTls {
  /** CAs that sign the zones' certificates; null: the CAs of Envoy's machine. */
  readonly ca: string | null
  /** Envoy's own certificate; null: none. */
  readonly client: { readonly cert: string; readonly key: string } | null
  /** The name that a certificate must have, with `{id}`, `{service}` and `{search}`; null: the zone's name. */
  readonly serverName: string | null
}
