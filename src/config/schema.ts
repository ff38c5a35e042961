import { isIP } from 'node:net'
import * as z from 'zod'
import { keyMutations } from '../envoy-files/key.ts'
import type { PortRange } from '../routing/denied-addresses.ts'
import { fillName, nameOf, upstreamsOf } from '../routing/rules.ts'
import {
  collectorOf,
  DOMAIN_NAME,
  isCidr,
  isLoopback,
  parseAddressPort,
  parseHostPort,
  parseNamedPort,
  parsePortRange,
} from './host-port.ts'
import { rulesOf } from './rules.ts'
import {
  hasKnownPlaceholders,
  pemFile,
  port,
  portOf,
  type RuleConfig,
  rules,
  servicesConfig,
} from './rules-schema.ts'
import { zones, zonesFaults } from './zones.ts'

const NAMESERVERS_MAX = 16
const PORT_RANGES_MAX = 64
/** Ports that SRV records may name by default: not the system ports (RFC 6335 section 6). */
const PORTS_OF_SRV: readonly PortRange[] = [[1024, 65_535]]
/** Characters of a header's format string (Envoy doc: core.v3.HeaderValue). */
const FORMAT_LENGTH_MAX = 16_384

const PORT_RANGE_EXPECTED = 'expected a port, or a range of ports like "8000-8999"'
const portRange = z.union(
  [port, z.string().refine((text) => parsePortRange(text) !== null, PORT_RANGE_EXPECTED)],
  PORT_RANGE_EXPECTED,
)
const hostPort = z
  .string()
  .refine((text) => parseNamedPort(text) !== null, 'expected host:port, like 127.0.0.1:9003')
const nameserver = z
  .string()
  .refine(
    (text) => isIP(parseHostPort(text)?.host ?? '') !== 0,
    'expected address:port, like 127.0.0.1:53 or [::1]:53',
  )

const listen = z
  .strictObject({
    grpc: z
      .string()
      .refine(
        (text) => (text.startsWith('unix:') ? text.length > 5 : parseAddressPort(text) !== null),
        'expected unix:PATH or address:port, like 127.0.0.1:9004; Envoy accepts no host name here',
      )
      .default('unix:run/processor.sock')
      .describe(
        'Where the processor listens for Envoy: unix:PATH (relative to the working directory) or address:port. A change needs a restart.',
      ),
    tls: z
      .strictObject({
        cert: pemFile.describe("The processor's certificate, followed by its intermediate certificates."),
        key: pemFile.describe('Private key of cert, without a passphrase.'),
        clientCa: pemFile.describe("Certificates of the CAs that sign Envoys' certificates."),
      })
      .nullable()
      .default(null)
      .describe(
        'Mutual TLS on listen.grpc, by PEM files. Changed contents take effect at once; other paths need a restart.',
      ),
    insecure: z
      .boolean()
      .default(false)
      .describe(
        'Allow listen.grpc on an address that is not loopback without listen.tls. Anyone who can connect is trusted as Envoy.',
      ),
    http: hostPort
      .default('127.0.0.1:9003')
      .describe(
        "Address for health, metrics, status and the operator's page. Needs a token unless it is loopback. A change needs a restart.",
      ),
    httpToken: z
      .string()
      .regex(/^[\x21-\x7e]{16,}$/, 'expected 16 printable characters or more, without spaces')
      .nullable()
      .default(null)
      .describe(
        'Token that clients of listen.http send as "Authorization: Bearer TOKEN". /healthz and /readyz need none.',
      ),
    httpTokenFile: z
      .string()
      .min(1)
      .nullable()
      .default(null)
      .describe('File that contains the token, for example a mounted secret. Instead of httpToken.'),
  })
  .superRefine(({ grpc, tls, insecure }, context) => {
    const host = parseAddressPort(grpc)?.host
    const fault = (key: string, message: string, input?: unknown): void =>
      context.addIssue({ code: 'custom', path: [key], message, ...(input !== undefined && { input }) })
    if (tls !== null && grpc.startsWith('unix:'))
      fault('tls', 'expected listen.grpc to be address:port: a Unix socket needs no TLS')
    else if (tls !== null && insecure) fault('insecure', 'expected listen.tls or listen.insecure, not both')
    else if (host !== undefined && !isLoopback(host) && tls === null && !insecure)
      fault(
        'grpc',
        'expected listen.tls (or listen.insecure: true) with an address that is not loopback',
        grpc,
      )
  })
  .superRefine(({ http, httpToken, httpTokenFile }, context) => {
    if (httpToken !== null && httpTokenFile !== null) {
      const message = 'expected httpToken or httpTokenFile, not both'
      context.addIssue({ code: 'custom', path: ['httpTokenFile'], message })
    }
    const host = parseNamedPort(http)?.host
    if (host !== undefined && !isLoopback(host) && httpToken === null && httpTokenFile === null) {
      const message = 'expected listen.httpToken or listen.httpTokenFile with an address that is not loopback'
      context.addIssue({ code: 'custom', path: ['http'], message, input: http })
    }
  })

const seconds = z.int().min(0).max(86_400)
const milliseconds = z.int().min(1).max(60_000)

const keys = z.strictObject({
  listen: listen.prefault({}),
  rules: rules
    .prefault([{}])
    .describe('Which requests go where. The first rule that matches decides. A single rule needs no list.'),
  zones: zones.prefault({}),
  dns: z
    .strictObject({
      resolvConf: z
        .string()
        .min(1)
        .default('/etc/resolv.conf')
        .describe('File with the nameservers and the search domain. Changes take effect at once.'),
      nameservers: z
        .array(nameserver)
        .min(1)
        .max(NAMESERVERS_MAX)
        .nullable()
        .default(null)
        .describe('Nameservers. Default: those of resolv.conf.'),
      search: z
        .string()
        .regex(DOMAIN_NAME, 'expected a domain name')
        .refine(isNoPlaceholder, "expected your zones' search domain instead of this placeholder")
        .nullable()
        .default(null)
        .describe('Search domain. Default: that of resolv.conf.'),
      budgetMs: milliseconds
        .default(1500)
        .describe(
          'Longest time that a request waits for DNS, in milliseconds. Must be less than message_timeout of ext_proc.',
        ),
      timeoutMs: milliseconds
        .nullable()
        .default(null)
        .describe('Timeout of one query, in milliseconds. null: timeout of resolv.conf.'),
      attempts: z
        .int()
        .min(1)
        .max(5)
        .nullable()
        .default(null)
        .describe('Rounds over all nameservers. null: attempts of resolv.conf.'),
      rotate: z
        .boolean()
        .nullable()
        .default(null)
        .describe('Spread queries over the nameservers. null: as in resolv.conf.'),
      family: z
        .enum(['ipv4', 'ipv6', 'both'])
        .default('ipv4')
        .describe('Address records to ask for: A, AAAA or both.'),
      ttlSeconds: z
        .strictObject({
          min: seconds.default(5).describe('Raise shorter TTLs to this. 0 stays 0.'),
          max: seconds.min(1).default(60).describe('Lower longer TTLs to this.'),
        })
        .refine(({ min, max }) => min <= max, 'expected min to be at most max')
        .prefault({}),
      staleSeconds: seconds
        .default(3600)
        .describe('How long an answer stays in use after its TTL while nameservers fail (RFC 8767).'),
      negativeTtlSecondsMax: seconds
        .default(30)
        .describe('Longest time that NXDOMAIN and NODATA are cached (RFC 2308).'),
      cacheEntriesMax: z
        .int()
        .min(16)
        .max(10_000_000)
        .default(10_000)
        .describe('Maximum number of names in the cache. When it is full, the least useful name is dropped.'),
      queriesInFlightMax: z
        .int()
        .min(1)
        .max(65_536)
        .default(1024)
        .describe('Maximum number of queries at once. A request that needs one more gets 502.'),
      unknownNames: z
        .strictObject({
          queriesPerSecond: z
            .int()
            .min(1)
            .max(1_000_000)
            .default(500)
            .describe('Maximum queries a second for names that are not in use. Requests beyond it get 502.'),
          queriesBurst: z
            .int()
            .min(8)
            .max(1_000_000)
            .default(2000)
            .describe(
              'Maximum number of these queries at once after a pause. A quarter is reserved for retries.',
            ),
        })
        .prefault({}),
    })
    .refine(({ family, queriesInFlightMax }) => family !== 'both' || queriesInFlightMax > 1, {
      path: ['queriesInFlightMax'],
      message: 'expected 2 or more, because "family: both" sends two queries at once',
    })
    .prefault({}),
  addresses: z
    .strictObject({
      allow: z
        .array(z.string().refine(isCidr, 'expected a CIDR, like 127.0.0.0/8'))
        .default([])
        .describe(
          'CIDRs that zones may have although they are denied by default (loopback, link-local, multicast and others).',
        ),
      ports: z
        .array(portRange)
        .min(1)
        .max(PORT_RANGES_MAX)
        .nullable()
        .default(null)
        .describe(
          'Ports that SRV records may name: numbers, and ranges like 8000-8999. null: 1024 to 65535.',
        ),
    })
    .prefault({}),
  learned: z
    .strictObject({
      enabled: z
        .boolean()
        .default(true)
        .describe('Let Envoy route zones in use by itself. false: every request asks the processor.'),
      zonesMax: z
        .int()
        .min(1)
        .max(100_000)
        .default(2000)
        .describe(
          'Maximum number of zones that Envoy routes by itself. Beyond it, the least recently used zone is dropped.',
        ),
      idleSeconds: z
        .int()
        .min(1)
        .max(86_400)
        .default(600)
        .describe('After this time without requests, a zone is dropped and asks the processor again.'),
      sharedRoutes: z
        .boolean()
        .nullable()
        .default(null)
        .describe(
          'Put the routes of many zones into one virtual host of Envoy. null: if zonesMax is more than 5,000.',
        ),
    })
    .prefault({}),
  fallback: z
    .strictObject({
      enabled: z
        .boolean()
        .default(false)
        .describe('While the processor does not answer, let Envoy resolve the names of zones itself.'),
    })
    .prefault({}),
  tracing: z
    .strictObject({
      otlp: z
        .string()
        .refine(
          (text) => collectorOf(text) !== null,
          'expected http://HOST:PORT of an OTLP collector (gRPC), like http://127.0.0.1:4317',
        )
        .nullable()
        .default(null)
        .describe('Collector to which Envoy and the processor send spans, OTLP over gRPC. null: no tracing.'),
      samplePercent: z
        .number()
        .min(0)
        .max(100)
        .default(100)
        .describe(
          'Percentage of requests to trace. A request with a traceparent is traced only if its sampled flag is set, too.',
        ),
    })
    .prefault({}),
  metrics: z
    .strictObject({
      topZones: z
        .int()
        .min(0)
        .max(100)
        .default(10)
        .describe('Number of zones that metrics name: those with the most failed requests. 0: none.'),
    })
    .prefault({}),
  history: z
    .strictObject({
      bytes: z
        .int()
        .min(1_048_576)
        .max(1_073_741_824)
        .default(16_777_216)
        .describe(
          'Memory for past events, in octets. When it is full, the oldest are dropped. The file may be as large.',
        ),
      path: z
        .string()
        .min(1)
        .nullable()
        .default(null)
        .describe(
          'File that keeps the events over a restart. A second file (.1) is next to it. null: memory only.',
        ),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z
        .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
        .default('info')
        .describe('Least important level to log. debug logs each request that asks the processor.'),
    })
    .prefault({}),
})

/** `.invalid` never exists (RFC 2606 section 2). deploy/kubernetes uses it as a placeholder. */
function isNoPlaceholder(domain: string): boolean {
  return !/\.invalid\.?$/i.test(domain)
}

/**
 * The schema of `zonegate.yaml`. Every key is optional. Retries, timeouts towards zones and circuit breakers are configured in
 * `envoy/`.
 */
export const configSchema = z.preprocess(
  withLists,
  keys
    .superRefine(namesZones)
    .superRefine(namesPorts)
    .superRefine(fitsEnvoy)
    .superRefine(fitsInotify)
    .superRefine(zonesFit),
)

function zonesFit(config: z.output<typeof keys>, context: z.RefinementCtx): void {
  if (context.issues.length > 0) return
  for (const { path, message } of zonesFaults(config.zones, rulesOf(config), config.addresses.allow))
    context.addIssue({ code: 'custom', path: ['zones', ...path], message })
  if (config.fallback.enabled && Object.keys(config.zones).length > 0) {
    const message =
      'expected false, because there are zones: while Envoy resolves names itself, it does not know them'
    context.addIssue({ code: 'custom', path: ['fallback', 'enabled'], message })
  }
}

/** All rules make one expression, which may be too long for Envoy even if each rule is short. */
function fitsEnvoy(config: z.output<typeof keys>, context: z.RefinementCtx): void {
  if (context.issues.length > 0) return
  const lengths = keyMutations(rulesOf(config), new Set()).map((mutation) =>
    'append' in mutation ? mutation.append.header.value.length : 0,
  )
  const length = Math.max(...lengths)
  if (length <= FORMAT_LENGTH_MAX) return
  const message = `expected less: Envoy's expression for the rules has ${length} characters, and the maximum is ${FORMAT_LENGTH_MAX}; use fewer or shorter paths, hosts and places of ids`
  context.addIssue({ code: 'custom', path: ['rules'], message, input: config.rules })
}

/**
 * CAs, and pairs of certificate and key, each counted once. Envoy watches each in two places, and exits if it gets no watch: Linux
 * allows 128 for all programs of a user (fs.inotify.max_user_instances). The files of the last two changes may still be watched.
 */
const TLS_FILES_MAX = 16

function fitsInotify(config: z.output<typeof keys>, context: z.RefinementCtx): void {
  if (context.issues.length > 0) return
  const files = upstreamsOf(rulesOf(config)).flatMap(({ tls }) =>
    tls === null ? [] : [`ca ${tls.ca}`, ...(tls.client === null ? [] : [JSON.stringify(tls.client)])],
  )
  const count = new Set(files).size
  if (count <= TLS_FILES_MAX) return
  const message = `expected less: upstream.tls has ${count} different files (cert and key count as one), and the maximum is ${TLS_FILES_MAX}, because Envoy watches each; put several CAs into one file`
  context.addIssue({ code: 'custom', path: ['rules'], message, input: config.rules })
}

/** With loopback allowed and ports chosen by SRV records, DNS could send requests to Envoy's admin page. */
function namesPorts({ rules, addresses }: z.output<typeof keys>, context: z.RefinementCtx): void {
  if (
    addresses.ports !== null ||
    addresses.allow.length === 0 ||
    rules.every((rule) => srvPatternsOf(rule).length === 0)
  )
    return
  const message =
    "expected addresses.ports, too, because a rule has port: srv: without it, DNS could name the gateway's own ports"
  context.addIssue({ code: 'custom', path: ['addresses', 'allow'], message })
}

function namesZones({ rules, dns }: z.output<typeof keys>, context: z.RefinementCtx): void {
  for (const [index, each] of rules.entries()) {
    const fault = (path: PropertyKey[], message: string, input: string): void =>
      context.addIssue({ code: 'custom', path, message, input })
    const srvs = srvPatternsOf(each)
    // Unknown placeholders are reported elsewhere.
    if (![each.host, ...srvs.map(({ srv }) => srv.replaceAll('{name}', ''))].every(hasKnownPlaceholders))
      continue
    const hostFault = zoneNameFault(withoutSrv(each), 'a')
    if (hostFault !== null) {
      fault(['rules', index, 'host'], `expected a pattern for host names: this one ${hostFault}`, each.host)
      continue
    }
    const wrong = srvs.find(
      ({ service, srv }) => nameOf(each.host, '1', { label: service, srv }, 'a') === null,
    )
    if (wrong !== undefined) {
      const made = fillName(each.host, '1', { label: wrong.service, srv: wrong.srv }, 'a')
      const message = `expected a pattern for names of SRV records: this one makes "${made}"`
      fault(['rules', index, ...wrong.path, 'srv'], message, wrong.srv)
    } else if (dns.search !== null && DOMAIN_NAME.test(dns.search)) {
      const searchFault = zoneNameFault(each, dns.search)
      const message = `expected a domain that fits rules.host: this one ${searchFault}`
      if (searchFault !== null) fault(['dns', 'search'], message, dns.search)
    }
  }
}

/** The SRV patterns of a rule's services, and where they stand in the file. */
function srvPatternsOf(rule: RuleConfig): { service: string; srv: string; path: PropertyKey[] }[] {
  return Object.entries(servicesConfig(rule)).flatMap(([key, { port }]) => {
    const { srv } = portOf(port ?? rule.port)
    const path = port === undefined ? ['port'] : ['services', key, 'port']
    return srv === undefined ? [] : [{ service: key.toLowerCase(), srv, path }]
  })
}

function withoutSrv(rule: RuleConfig): RuleConfig {
  const services = Object.entries(servicesConfig(rule)).map(([key, service]) => [
    key,
    { ...service, port: 1 },
  ])
  return { ...rule, services: Object.fromEntries(services) }
}

/** Rules, and places of an id, may be written without a list if there is only one. */
function withLists(value: unknown): unknown {
  if (!isMapping(value) || value['rules'] === undefined) return value
  const rules: unknown = isMapping(value['rules']) ? [value['rules']] : value['rules']
  if (!Array.isArray(rules)) return { ...value, rules: [rules] }
  return { ...value, rules: rules.map(withIdList) }
}

function withIdList(value: unknown): unknown {
  if (!isMapping(value) || value['id'] === undefined || Array.isArray(value['id'])) return value
  return { ...value, id: [value['id']] }
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Turns a path in the schema into a path in the file, where a single rule may stand without a list. */
export function pathAsWritten(path: readonly PropertyKey[], value: unknown): readonly PropertyKey[] {
  const [section, rule, key, place, ...rest] = path
  if (section !== 'rules' || rule === undefined || !isMapping(value)) return path
  const rules = value['rules']
  const own = Array.isArray(rules) ? rules[Number(rule)] : rules
  const isListed = key !== 'id' || !isMapping(own) || Array.isArray(own['id'])
  return [
    section,
    ...(Array.isArray(rules) ? [rule] : []),
    ...(key === undefined ? [] : [key]),
    ...(place === undefined || !isListed ? [] : [place]),
    ...rest,
  ]
}

/** Why a rule and a search domain can't make the name of any zone. Null if they can. */
export function zoneNameFault(rule: RuleConfig, search: string): string | null {
  const domain = search.replace(/\.$/, '')
  for (const [key, { port = rule.port }] of Object.entries(servicesConfig(rule))) {
    const service = { label: key.toLowerCase(), ...portOf(port) }
    if (nameOf(rule.host, '1', service, domain) === null)
      return `makes no host name (labels of up to 63 letters, digits and hyphens, 253 characters in all), as in "${fillName(rule.host, '1', service, domain)}"`
  }
  return null
}

/** The ports that SRV records may name. */
export function portsOf({ addresses }: Config): readonly PortRange[] {
  return (
    addresses.ports?.map((range) => (typeof range === 'number' ? [range, range] : rangeOf(range))) ??
    PORTS_OF_SRV
  )
}

function rangeOf(text: string): PortRange {
  const range = parsePortRange(text)
  if (range === null) throw new Error(`the schema accepts only port ranges, not "${text}"`)
  return range
}

export type Config = z.output<typeof configSchema>
