import { type IdReading, type IdSource, isBodySource, readId } from './id-sources.ts'
import { fits, type Pattern } from './patterns.ts'
import type { RejectReason } from './reject-reason.ts'
import { hostOf, pathOf, type RequestHead } from './request-head.ts'
import { NOTHING_SAID, type Said, type SaidOfZones } from './said.ts'

export { pathOf, type RequestHead } from './request-head.ts'

/** The rules, completed once from `rules` of zonegate.yaml. The first that fits a request decides. */
export type Rules = readonly Rule[]

export interface Rule {
  readonly name: string
  /** In front of the id in what Envoy finds routes by: `pay.`; empty where there is one rule, and it fits everything. */
  readonly prefix: string
  /** Absent: it fits whatever is there. */
  readonly match: { readonly paths?: readonly Pattern[]; readonly hosts?: readonly Pattern[] }
  readonly methods: ReadonlySet<string>
  /** The first that a request has says its id. */
  readonly sources: readonly IdSource[]
  readonly idPattern: RegExp
  /** With `{id}`, `{service}` and `{search}`. */
  readonly host: string
  /** Literal path → service. */
  readonly serviceByPath: ReadonlyMap<string, Service>
  /** The service of every other path. */
  readonly fallback: Service
  /** Octets of a body that is looked into. */
  readonly bodyMaxBytes: number
  /** `learned.sharedRoutes`: many ids have their routes in one virtual host of Envoy's. */
  readonly sharesRoutes: boolean
}

export interface Service {
  /** No other service of any rule has it: `mail`, `pay`, `pay.mail`. */
  readonly name: string
  /** What `{service}` stands for: `mail`. */
  readonly label: string
  /** Name of its rule. */
  readonly rule: string
  /** Port of the service's receivers; 0 with `srv`, where each address brings its own. */
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
  /** What DNS is asked for: absolute, lower case, no final dot. A host's name, or with `srv` that of its SRV records. */
  readonly name: string
  /** Whose certificate its receivers must have, where they speak TLS: absolute, lower case, no final dot. */
  readonly serverName?: string
  /** What is said of it beside DNS. */
  readonly said?: Said
  /** Its requests have another id, which is not in DNS, and `zones` says that they go here. */
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
/** Such a label, or one with an underscore in front (RFC 8552). */
const SRV_LABEL = /^(?=.{1,63}$)_?(?!-)[a-z0-9-]+(?<!-)$/
/**
 * Whatever `idPattern` says: an id is a part of one label, so that no dot in it leads to another domain. A lone hyphen is what
 * Envoy writes where there is nothing.
 */
const ID = /^(?!-$)[A-Za-z0-9-]{1,63}$/

/** The rule that decides a request; undefined where none fits it. */
export function ruleOf(head: RequestHead, rules: Rules): Rule | undefined {
  const path = pathOf(head.path)
  return rules.find(
    ({ match: { paths, hosts } }) =>
      (paths === undefined || paths.some((pattern) => fits(pattern, path))) &&
      (hosts === undefined || hosts.some((pattern) => fits(pattern, hostOf(head.authority)))),
  )
}

/**
 * The whole decision but for DNS, in the order of the OpenResty recipe: rule, method, id, service, name. Pure; what DNS says
 * of the name comes afterwards (decision.ts).
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

/** The zone of an id that the rule lets through; null where it has no name, or is merged into what is no id of the rule. */
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
 * The name in the certificate of a zone's receivers. Never that of SRV records: that is no host's.
 * @returns undefined for a service without TLS; null where that makes no host name
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

/** As `serverNameOf`, whatever that makes. */
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

/** What a request's id is by a rule, and which source says so: the first that the request has, else the last. */
export function idOf(head: RequestHead, rule: Rule): { reading: IdReading; source: IdSource } {
  let last: { reading: IdReading; source: IdSource } | undefined
  for (const source of rule.sources) {
    last = { reading: readId(head, source), source }
    if (last.reading.kind !== 'absent') return last
  }
  if (last === undefined) throw new Error('the schema lets through only rules with a source')
  return last
}

/** True where a rule may have to look into the body, so that Envoy sends it. */
export function looksIntoBody(rule: Rule): boolean {
  return rule.sources.some(isBodySource)
}

/** Names of the request headers that the rules look at, beside those that every request has. */
export function headersOf(rules: Rules): string[] {
  const names = rules.flatMap(({ sources }) =>
    sources.flatMap((source) => {
      if (source.kind === 'header') return [source.name]
      if (source.kind === 'cookie') return ['cookie']
      return isBodySource(source) ? ['content-type', 'content-encoding'] : []
    }),
  )
  return [...new Set(names)]
}

/** True for a text that may be an id of this rule: letters, digits and hyphens, as its pattern allows. */
export function isId(text: string, rule: Rule): boolean {
  return ID.test(text) && rule.idPattern.test(text)
}

/** A rule that looks at one header keeps the reasons of the time when there was no other source. */
function hasOnlyHeader({ sources }: Rule): boolean {
  return sources.length === 1 && sources[0]?.kind === 'header'
}

export function missingReason(rule: Rule): RejectReason {
  return hasOnlyHeader(rule) ? 'server_header_missing' : 'id_missing'
}

export function invalidReason(rule: Rule): RejectReason {
  return hasOnlyHeader(rule) ? 'server_header_invalid' : 'id_invalid'
}

/** The zone of a service and an id that were told apart before; null where the rules have no such zone. */
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

/** The name of such a zone, whatever that makes: for logs of what may be no zone any more. */
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

/** Every service of a rule once, with its paths; the fallback has none. */
export function servicesOf({ serviceByPath, fallback }: Rule): (Service & { paths: string[] })[] {
  const services = new Map<string, Service & { paths: string[] }>()
  for (const [path, service] of serviceByPath) {
    const known = services.get(service.name) ?? { ...service, paths: [] }
    known.paths.push(path)
    services.set(service.name, known)
  }
  return [...services.values(), { ...fallback, paths: [] }]
}

/** How services are reached, each way once; none where all are by HTTP/1.1 in plain text. */
export function upstreamsOf(rules: Rules): Upstream[] {
  const upstreams = rules.flatMap(servicesOf).flatMap(({ upstream }) => upstream ?? [])
  return [...new Map(upstreams.map((upstream) => [upstream.cluster, upstream])).values()]
}

/** What a service's name is made of. */
export type NamedService = Pick<Service, 'label' | 'srv'>

/** Fills in the patterns; null when that makes no name. */
export function nameOf(host: string, id: string, service: NamedService, search: string): string | null {
  const name = fillHost(host, id, service.label, search)
  if (name.length > NAME_LENGTH_MAX || !name.split('.').every((label) => LABEL.test(label))) return null
  if (service.srv === undefined) return name
  const ofService = fillSrv(service.srv, name, id, service, search)
  if (ofService.length > NAME_LENGTH_MAX) return null
  return ofService.split('.').every((label) => SRV_LABEL.test(label)) ? ofService : null
}

/** The patterns with their placeholders filled in, in lower case, whatever that makes. */
export function fillName(host: string, id: string, service: NamedService, search: string): string {
  const name = fillHost(host, id, service.label, search)
  return service.srv === undefined ? name : fillSrv(service.srv, name, id, service, search)
}

/** As `fillName`, without SRV. */
export function fillHost(host: string, id: string, service: string, search: string): string {
  const values: Readonly<Record<string, string>> = { id, service, search }
  return host.replace(/\{(id|service|search)\}/g, (_, key: string) => values[key] ?? '').toLowerCase()
}

function fillSrv(srv: string, name: string, id: string, service: NamedService, search: string): string {
  return fillHost(srv.replaceAll('{name}', name), id, service.label, search)
}

/** How Envoy reaches the receivers of a service, where it is not HTTP/1.1 in plain text. */
export interface Upstream {
  /** The name of the cluster in Envoy by which the processor's requests go. Those that are alike have the same. */
  readonly cluster: string
  readonly tls: UpstreamTls | null
  /** With 2, bodies are streamed. */
  readonly http: 1 | 2
}

/** Paths are of PEM files, as Envoy reads them. */
export interface UpstreamTls {
  /** CAs that sign zones' certificates; null: those of Envoy's machine. */
  readonly ca: string | null
  /** Envoy's own certificate; null: none. */
  readonly client: { readonly cert: string; readonly key: string } | null
  /** Pattern with `{id}`, `{service}` and `{search}` of the name that a certificate must have; null: the zone's name. */
  readonly serverName: string | null
}
