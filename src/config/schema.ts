import { isIP, isIPv4, isIPv6 } from 'node:net'
import { dirname } from 'node:path'
import * as z from 'zod'
import { keyMutations } from '../envoy-files/key.ts'
import type { PortRange } from '../routing/denied-addresses.ts'
import { IS_IN_BODY, type SourceKind } from '../routing/id-sources.ts'
import { covers, patternOf } from '../routing/patterns.ts'
import { fillHost, fillName, nameOf, upstreamsOf } from '../routing/rules.ts'
import { portOf, RULE_NAME, rulesOf, servicesConfig } from './rules.ts'
import { isSlow } from './slow-pattern.ts'
import { zones, zonesFaults } from './zones.ts'

/** `host:port`, `[v6]:port`; a port from 1 to 65535. */
const HOST_PORT = /^(?:\[([^\]]+)\]|([^\s:[\]/]+)):(\d{1,5})$/
/** A domain name: letters, digits and hyphens, labels up to 63 octets (RFC 1123 section 2.1), an optional final dot. */
const DOMAIN_NAME = /^(?=.{1,254}$)(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.?$/i
/** These addresses need a scope (RFC 4007 section 4). */
const LINK_LOCAL = /^fe[89ab]/i
const SERVICE_NAME = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/i
const METHOD = /^[A-Z]+$/
/** Headers of the connection (RFC 9110 section 7.6.1, RFC 9113 section 8.3), which no proxy forwards as they came. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  ...['host', 'connection', 'content-length', 'expect', 'keep-alive', 'proxy-connection'],
  ...['te', 'trailer', 'transfer-encoding', 'upgrade'],
])
const NAMESERVERS_MAX = 16
const PORT_RANGES_MAX = 64
/** Ports that SRV records may name by default: not the system ports (RFC 6335 section 6). */
const PORTS_OF_SRV: readonly PortRange[] = [[1024, 65_535]]
const HEADER_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]+$/

const port = z.int().min(1).max(65_535)
const SRV_LENGTH_MAX = 253
/** A port, or the SRV records that name it. */
const receiversPort = z.union(
  [
    port,
    z.literal('srv'),
    z.strictObject({
      srv: z
        .string()
        .max(SRV_LENGTH_MAX)
        .startsWith('_', 'expected a name that begins with an underscore, like "_{service}._tcp.{name}"')
        .refine((text) => /\{(?:name|id)\}/.test(text), 'expected a pattern that contains {name} or {id}')
        .refine(
          (text) => hasKnownPlaceholders(text.replaceAll('{name}', '')),
          'expected no placeholder but {name}, {id}, {service} and {search}',
        )
        .refine(
          (text) => endsInDomain(text.replace(/\.\{name\}$/, '.{search}')),
          'expected {name}, {search} or a domain at the end, so that an id cannot choose the domain',
        )
        .describe(
          'Name of the SRV records: a pattern of {name} (the name that host makes), {id}, {service} and {search}.',
        ),
    }),
  ],
  'expected a port from 1 to 65535, srv, or { srv: PATTERN }',
)
const PORT_RANGE = /^(\d{1,5})-(\d{1,5})$/
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

const pemFile = z.string().min(1, 'expected the path of a PEM file')

/** The protocol from Envoy to receivers. */
const upstream = z
  .strictObject({
    tls: z
      .strictObject({
        ca: pemFile
          .default('system')
          .describe(
            "PEM file with the CAs that sign zones' certificates, or system: the CAs of Envoy's machine.",
          ),
        cert: pemFile
          .optional()
          .describe(
            'Client certificate that Envoy sends to zones, followed by its intermediate certificates.',
          ),
        key: pemFile.optional().describe('Private key of cert, in the same folder. Only Envoy reads it.'),
        serverName: z
          .string()
          .refine(hasKnownPlaceholders, 'expected no placeholder but {id}, {service} and {search}')
          .refine(
            (text) => !hasKnownPlaceholders(text) || isHostName(fillHost(text, '1', 'a', 'a')),
            'expected a host name, like "{id}.zones.example"',
          )
          .optional()
          .describe(
            "Name that a zone's certificate must have; also sent as SNI. Default: the name that host makes.",
          ),
      })
      .superRefine(({ cert, key }, context) => {
        const fault = (at: string, message: string): void =>
          context.addIssue({ code: 'custom', path: [at], message })
        if (cert !== undefined && key === undefined) fault('cert', 'expected its key beside it')
        else if (key !== undefined && cert === undefined) fault('key', 'expected its cert beside it')
        else if (cert !== undefined && key !== undefined && dirname(cert) !== dirname(key))
          fault(
            'key',
            'expected a file in the same folder as cert, because Envoy watches one folder for both',
          )
      })
      .optional()
      .describe('Use TLS to zones and verify their certificates. Default: plain text.'),
    http: z
      .union([z.literal(1), z.literal(2)], 'expected 1 or 2')
      .default(1)
      .describe('1: HTTP/1.1. 2: HTTP/2, which gRPC needs; Envoy then streams bodies.'),
  })
  .describe('Protocol to the receivers. Default: HTTP/1.1 in plain text.')

const service = z.strictObject({
  paths: z
    .array(
      z
        .string()
        .startsWith('/', 'expected a path that begins with "/"')
        .regex(/^[^?#]*$/, 'expected a path without "?" or "#"'),
    )
    .optional()
    .describe('Paths of this service, compared exactly and without the query.'),
  port: receiversPort
    .optional()
    .describe("Port of this service's receivers. srv: take it from SRV records in the zone's DNS."),
  upstream: upstream.optional(),
})

const services = z
  .record(z.string().regex(SERVICE_NAME, 'expected letters, digits and hyphens'), service)
  .superRefine((value, context) => {
    const fallbacks = Object.entries(value).filter(([, { paths }]) => paths === undefined)
    if (fallbacks.length !== 1) {
      context.addIssue({
        code: 'custom',
        message: 'expected exactly one service without paths, which gets all other paths',
      })
    }
    const spellings = new Map<string, string>()
    for (const name of Object.keys(value)) {
      const other = spellings.get(name.toLowerCase())
      if (other !== undefined)
        context.addIssue({
          code: 'custom',
          path: [name],
          message: `expected another name: it differs from "${other}" only in upper and lower case`,
        })
      spellings.set(name.toLowerCase(), name)
    }
    const owner = new Map<string, string>()
    for (const [name, { paths }] of Object.entries(value)) {
      for (const [index, path] of (paths ?? []).entries()) {
        const other = owner.get(path)
        if (other !== undefined) {
          context.addIssue({
            code: 'custom',
            path: [name, 'paths', index],
            message: `expected another path: service "${other}" already has this one`,
          })
        }
        owner.set(path, name)
      }
    }
  })

const RULE_NAME_PATTERN = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/
/** Names of query parameters, cookies and form fields that every program reads alike. */
const FIELD_NAME = /^[A-Za-z0-9_.-]{1,64}$/
const BODY_OCTETS_MAX = 1024 * 1024
/** Methods whose requests have no meaningful body (RFC 9110 section 9.3). */
const WITHOUT_BODY: ReadonlySet<string> = new Set(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE'])

/** Envoy accepts no larger expressions and conditions than these make (docs/decisions/0023). */
const RULES_MAX = 16
const PATTERNS_MAX = 64
const METHODS_MAX = 16
const METHOD_LENGTH_MAX = 32
const HEADER_LENGTH_MAX = 128
const PATH_LENGTH_MAX = 256
const HOST_LENGTH_MAX = 253
/** Envoy accepts no longer regular expression inside an expression. */
const HOST_PATTERN_LENGTH_MAX = 80
const POINTER_LENGTH_MAX = 1024
/** Characters of a header's format string (Envoy doc: core.v3.HeaderValue). */
const FORMAT_LENGTH_MAX = 16_384

const fieldName = z
  .string()
  .regex(FIELD_NAME, 'expected a name of letters, digits, hyphens, dots and underscores')
const header = z
  .string()
  .max(HEADER_LENGTH_MAX)
  .toLowerCase()
  .regex(HEADER_NAME, 'expected a header name')
  .refine(
    (name) => !isLostOnTheWay(name),
    'expected a header that reaches the processor: Envoy uses, sets or drops this one',
  )

/** One place of a request. */
const sourceFields = {
  header: header.optional().describe('A request header.'),
  query: fieldName.optional().describe('A parameter of the query.'),
  path: z
    .string()
    .max(PATH_LENGTH_MAX)
    .regex(/^\/[^?#{}]*\{id\}[^?#{}]*$/, 'expected a path with {id} once, like "/cb/{id}/*"')
    .refine(isPlainTemplate, 'expected `*` at the end only, behind a "/"')
    .optional()
    .describe('Pattern of the path with {id}. A final /* matches any rest.'),
  host: z
    .string()
    .max(HOST_LENGTH_MAX)
    .regex(/^[A-Za-z0-9.-]*\{id\}[A-Za-z0-9.-]*$/, 'expected a host with {id} once, like "{id}.cb.example"')
    .optional()
    .describe('Pattern of the host with {id}, without the port.'),
  cookie: fieldName.optional().describe('A cookie.'),
  json: z
    .string()
    .max(POINTER_LENGTH_MAX)
    .regex(/^(?:\/(?:[^/~]|~[01])+){1,16}$/, 'expected a JSON pointer (RFC 6901), like "/attach/server"')
    .optional()
    .describe('JSON pointer to a text or an integer in a JSON body.'),
  form: fieldName.optional().describe('A form field in a body of type application/x-www-form-urlencoded.'),
} satisfies Record<SourceKind, z.ZodType>
const source = z.strictObject(sourceFields).refine((value) => Object.keys(value).length === 1, {
  message: `expected one of ${Object.keys(sourceFields).join(', ')}`,
  // A key that is misspelt is one fault, not two.
  when: ({ issues }) => issues.length === 0,
})

const pathPattern = z
  .string()
  .max(PATH_LENGTH_MAX)
  .startsWith('/', 'expected a path that begins with "/"')
  .regex(/^[^?#*]*\*?$/, 'expected a path without "?" or "#", and `*` at the end only')
const hostPattern = z
  .string()
  .max(HOST_PATTERN_LENGTH_MAX)
  .regex(/^[A-Za-z0-9.-]*\*?$/, 'expected a host without its port, and `*` at the end only')

const rule = z
  .strictObject({
    name: z
      .string()
      .regex(RULE_NAME_PATTERN, 'expected lower-case letters, digits and hyphens, 32 at most')
      .optional()
      .describe('Name of the rule. Required if there are several rules.'),
    match: z
      .strictObject({
        paths: z
          .array(pathPattern)
          .min(1)
          .max(PATTERNS_MAX)
          .optional()
          .describe('Paths without the query: exact, or a prefix that ends with *.'),
        hosts: z
          .array(hostPattern)
          .min(1)
          .max(PATTERNS_MAX)
          .optional()
          .describe('Hosts without the port: exact, or a prefix that ends with *.'),
      })
      .optional()
      .describe('Requests that this rule applies to. Default: all.'),
    methods: z
      .array(z.string().max(METHOD_LENGTH_MAX).regex(METHOD, 'expected a method in upper case'))
      .min(1)
      .max(METHODS_MAX)
      .default(['POST'])
      .describe('Methods to forward. Other methods get 405.'),
    header: header
      .optional()
      .describe('Short for id: { header: ... }. Default without header and id: "server".'),
    id: z
      .array(source)
      .min(1)
      .max(8)
      .optional()
      .describe(
        "Where a request has its zone's id: one place, or a list of places. The first place that the request has counts.",
      ),
    idPattern: z
      .string()
      .superRefine(mustCompile)
      .default('^[A-Za-z0-9-]{1,40}$')
      .describe('Regular expression for ids. Other ids get 403.'),
    host: z
      .string()
      .refine((text) => text.includes('{id}'), 'expected a pattern that contains {id}')
      .refine(hasKnownPlaceholders, 'expected no placeholder but {id}, {service} and {search}')
      .refine(
        staysInDomain,
        'expected a domain after the label with {id}, like ".{search}", so that an id cannot choose the domain',
      )
      .default('zone{id}-{service}.{search}')
      .describe("A zone's name in DNS: a pattern of {id}, {service} and {search}."),
    services: services
      .optional()
      .describe('Services by name. Exactly one has no paths; it gets all other paths.'),
    port: receiversPort
      .default(8101)
      .describe(
        "Port of the receivers of services without a port of their own. srv: take it from SRV records in the zone's DNS.",
      ),
    upstream: upstream.optional(),
    bodyMaxBytes: z
      .int()
      .min(1)
      .max(BODY_OCTETS_MAX)
      .default(65_536)
      .describe('Longest body, in octets, that is searched for the id. A longer body gets 413.'),
  })
  .superRefine((value, context) => {
    const fault = (key: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [key], message })
    if (value.id !== undefined && value.header !== undefined)
      fault('header', 'expected header or id, not both')
    const kinds = (value.id ?? []).flatMap(Object.keys) as SourceKind[]
    const inBody = kinds.some((kind) => IS_IN_BODY[kind])
    const without = value.methods.filter((method) => WITHOUT_BODY.has(method))
    if (inBody && without.length > 0)
      fault(
        'methods',
        `expected only methods with a body, because the id is in the body; got ${without.join(', ')}`,
      )
    const isStreamed = Object.values(servicesConfig(value)).some(
      (each) => (each.upstream ?? value.upstream)?.http === 2,
    )
    if (inBody && isStreamed)
      fault('id', 'expected a place outside the body, because "http: 2" streams bodies')
  })

type RuleInput = z.output<typeof rule>

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
  rules: z
    .array(rule)
    .min(1)
    .max(RULES_MAX)
    .superRefine(namesDiffer)
    .superRefine(eachCanMatch)
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
function srvPatternsOf(rule: RuleInput): { service: string; srv: string; path: PropertyKey[] }[] {
  return Object.entries(servicesConfig(rule)).flatMap(([key, { port }]) => {
    const { srv } = portOf(port ?? rule.port)
    const path = port === undefined ? ['port'] : ['services', key, 'port']
    return srv === undefined ? [] : [{ service: key.toLowerCase(), srv, path }]
  })
}

function withoutSrv(rule: RuleInput): RuleInput {
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

/** Several rules have different names. */
function namesDiffer(rules: readonly RuleInput[], context: z.RefinementCtx): void {
  const seen = new Set<string>()
  for (const [index, { name }] of rules.entries()) {
    const fault = (message: string): void =>
      context.addIssue({ code: 'custom', path: [index, 'name'], message })
    if (name === undefined && rules.length > 1) fault('expected a name, because there are several rules')
    else if (name !== undefined && seen.has(name))
      fault(`expected another name: an earlier rule is "${name}"`)
    seen.add(name ?? RULE_NAME)
  }
}

/** A rule is a mistake if an earlier rule matches everything that it matches. */
function eachCanMatch(rules: readonly RuleInput[], context: z.RefinementCtx): void {
  for (const [index, { match }] of rules.entries()) {
    const before = rules.slice(0, index).find((earlier) => takesAll(earlier.match, match))
    if (before === undefined) continue
    const message = `expected a rule that can match: the earlier rule "${before.name ?? RULE_NAME}" takes all its requests`
    context.addIssue({ code: 'custom', path: match === undefined ? [index] : [index, 'match'], message })
  }
}

function takesAll(first: RuleInput['match'], second: RuleInput['match']): boolean {
  return (['paths', 'hosts'] as const).every((part) => {
    const earlier = first?.[part]
    if (earlier === undefined) return true
    const fold = (text: string) => patternOf(part === 'hosts' ? text.toLowerCase() : text)
    return second?.[part]?.every((text) => earlier.some((one) => covers(fold(one), fold(text)))) ?? false
  })
}

/** Callers choose ids, and must not choose the domain: the name ends with `{search}` or with a fixed domain. */
function staysInDomain(host: string): boolean {
  if (!host.includes('{id}') || !hasKnownPlaceholders(host)) return true // reported elsewhere
  return endsInDomain(host)
}

function endsInDomain(host: string): boolean {
  return /\.(?:\{search\}|[a-z0-9-]+(?:\.[a-z0-9-]+)*)\.?$/i.test(host) && !/\{search\}./.test(host)
}

function isPlainTemplate(text: string): boolean {
  return /^[^*]*(?:\/\*)?$/.test(text)
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

function parsePortRange(text: string): PortRange | null {
  const [, first, last] = (PORT_RANGE.exec(text) ?? []).map(Number)
  if (first === undefined || last === undefined) return null
  return first >= 1 && first <= last && last <= 65_535 ? [first, last] : null
}

export type Config = z.output<typeof configSchema>
/** One of the rules, as checked. */
export type RuleConfig = Config['rules'][number]
/** One place of an id: a single key. */
export type SourceConfig = NonNullable<RuleConfig['id']>[number]

/** Splits `host:port` and `[v6]:port`. Null if the text is neither. */
export function parseHostPort(text: string): { host: string; port: number } | null {
  const match = HOST_PORT.exec(text)
  if (match === null) return null
  const host = match[1] ?? match[2] ?? ''
  const number = Number(match[3])
  if (number < 1 || number > 65_535) return null
  if (match[1] !== undefined && !isIPv6(host)) return null
  return { host, port: number }
}

/** Like `parseHostPort`, but only for addresses that Envoy accepts: no host name, and a scope only for link-local ones. */
export function parseAddressPort(text: string): { host: string; port: number } | null {
  const parsed = parseHostPort(text)
  if (parsed === null || isIP(parsed.host) === 0) return null
  return parsed.host.includes('%') && !LINK_LOCAL.test(parsed.host) ? null : parsed
}

/** Like `parseHostPort`, but only for an address or a host name. */
function parseNamedPort(text: string): { host: string; port: number } | null {
  const parsed = parseHostPort(text)
  return parsed !== null && (isIP(parsed.host) !== 0 || isHostName(parsed.host)) ? parsed : null
}

/** Host and port of `http://HOST:PORT`. Null if the text is something else. */
export function collectorOf(url: string): { host: string; port: number } | null {
  return url.startsWith('http://') ? parseNamedPort(url.slice('http://'.length).replace(/\/$/, '')) : null
}

/** Like `parseHostPort`, for text that the schema has accepted. */
export function hostPortOf(text: string): { host: string; port: number } {
  const parsed = parseHostPort(text)
  if (parsed === null) throw new Error(`the schema accepts only host:port, not "${text}"`)
  return parsed
}

/** True if only this machine can be reached by the address or name. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** A host name does not end in a number: that would be an address (RFC 3696 section 2). */
function isHostName(host: string): boolean {
  return DOMAIN_NAME.test(host) && !/(?:^|\.)\d+\.?$/.test(host)
}

/** Headers that can't carry an id, because Envoy uses, sets or drops them. It drops names with `_`. */
function isLostOnTheWay(header: string): boolean {
  return (
    /_|^x-(?:envoy|zonegate)-|^x-forwarded-(?:host|proto)$|^x-request-id$/.test(header) ||
    HOP_BY_HOP.has(header)
  )
}

function hasKnownPlaceholders(host: string): boolean {
  return !/[{}]/.test(host.replace(/\{(?:id|service|search)\}/g, ''))
}

function isCidr(text: string): boolean {
  const [address = '', prefix = '', ...rest] = text.split('/')
  const family = address.includes('%') ? 0 : isIP(address)
  return (
    rest.length === 0 &&
    family !== 0 &&
    /^\d{1,3}$/.test(prefix) &&
    Number(prefix) <= (family === 4 ? 32 : 128)
  )
}

function mustCompile(text: string, context: z.RefinementCtx): void {
  const fault = (message: string): void => context.addIssue({ code: 'custom', message })
  try {
    new RegExp(text)
  } catch (error) {
    fault(`expected a regular expression (${(error as Error).message})`)
    return
  }
  if (isSlow(text))
    fault('expected a faster regular expression: nested or consecutive repetitions make it slow for some ids')
}
