import { isIP, isIPv4, isIPv6 } from 'node:net'
import { dirname } from 'node:path'
import * as z from 'zod'
import { keyMutations } from '../envoy-files/key.ts'
import type { PortRange } from '../routing/denied-addresses.ts'
import { covers, patternOf } from '../routing/patterns.ts'
import { fillHost, fillName, nameOf, upstreamsOf } from '../routing/rules.ts'
import { portOf, RULE_NAME, rulesOf, servicesConfig, sourcesOf } from './rules.ts'
import { isSlow } from './slow-pattern.ts'
import { zones, zonesFaults } from './zones.ts'

/** `host:port`, `[v6]:port`; a port from 1 to 65535. */
const HOST_PORT = /^(?:\[([^\]]+)\]|([^\s:[\]/]+)):(\d{1,5})$/
/** A domain name: letters, digits and hyphens, labels up to 63 octets (RFC 1123 section 2.1), an optional final dot. */
const DOMAIN_NAME = /^(?=.{1,254}$)(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.?$/i
/** Addresses that mean something with a scope only (RFC 4007 section 4). */
const LINK_LOCAL = /^fe[89ab]/i
const SERVICE_NAME = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/i
const METHOD = /^[A-Z]+$/
/** What a connection's head is made of (RFC 9110 section 7.6.1, RFC 9113 section 8.3): never forwarded as it came. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  ...['host', 'connection', 'content-length', 'expect', 'keep-alive', 'proxy-connection'],
  ...['te', 'trailer', 'transfer-encoding', 'upgrade'],
])
const NAMESERVERS_MAX = 16
const PORT_RANGES_MAX = 64
/** Ports that SRV records may lead to: none that only a privileged program listens on (RFC 6335 section 6). */
const PORTS_OF_SRV: readonly PortRange[] = [[1024, 65_535]]
const HEADER_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]+$/

const port = z.int().min(1).max(65_535)
const SRV_LENGTH_MAX = 253
/** A port, or where it is in DNS. */
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
          'expected {name}, {search} or a domain at the end: else ids lead out of it',
        )
        .describe(
          'Pattern of the name of the SRV records, made of {name}, which is what host makes, {id}, {service} and {search}.',
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

/** How Envoy reaches receivers. */
const upstream = z
  .strictObject({
    tls: z
      .strictObject({
        ca: pemFile
          .default('system')
          .describe(
            "PEM file with the CAs that sign zones' certificates, or system: those of the machine that Envoy runs on.",
          ),
        cert: pemFile
          .optional()
          .describe("Envoy's own certificate towards zones, then those that lead to its CA."),
        key: pemFile.optional().describe('Its private key, in the folder of cert. Envoy alone reads it.'),
        serverName: z
          .string()
          .refine(hasKnownPlaceholders, 'expected no placeholder but {id}, {service} and {search}')
          .refine(
            (text) => !hasKnownPlaceholders(text) || isHostName(fillHost(text, '1', 'a', 'a')),
            'expected a host name, like "{id}.zones.example"',
          )
          .optional()
          .describe(
            "The name that a zone's certificate must have, which is also sent as SNI; without it, what host makes.",
          ),
      })
      .superRefine(({ cert, key }, context) => {
        const fault = (at: string, message: string): void =>
          context.addIssue({ code: 'custom', path: [at], message })
        if (cert !== undefined && key === undefined) fault('cert', 'expected its key beside it')
        else if (key !== undefined && cert === undefined) fault('key', 'expected its cert beside it')
        else if (cert !== undefined && key !== undefined && dirname(cert) !== dirname(key))
          fault('key', 'expected the folder of cert: Envoy watches one folder for both')
      })
      .optional()
      .describe(
        'Envoy speaks TLS to zones, and to none whose certificate does not fit; without it, plain text.',
      ),
    http: z
      .union([z.literal(1), z.literal(2)], 'expected 1 or 2')
      .default(1)
      .describe('HTTP/1.1, or HTTP/2, which gRPC needs: bodies are streamed then.'),
  })
  .describe('How Envoy reaches the receivers: TLS, HTTP/2. Without it: HTTP/1.1 in plain text.')

const service = z.strictObject({
  paths: z
    .array(
      z
        .string()
        .startsWith('/', 'expected a path that begins with "/"')
        .regex(/^[^?#]*$/, 'expected a path without "?" or "#"'),
    )
    .optional()
    .describe('Literal paths of this service, compared without the query.'),
  port: receiversPort
    .optional()
    .describe("Port of this service's receivers; srv: it is in SRV records of the zone's DNS."),
  upstream: upstream.optional(),
})

const services = z
  .record(z.string().regex(SERVICE_NAME, 'expected letters, digits and hyphens'), service)
  .superRefine((value, context) => {
    const fallbacks = Object.entries(value).filter(([, { paths }]) => paths === undefined)
    if (fallbacks.length !== 1) {
      context.addIssue({
        code: 'custom',
        message: 'expected exactly one service without paths: the one for every other path',
      })
    }
    const spellings = new Map<string, string>()
    for (const name of Object.keys(value)) {
      const other = spellings.get(name.toLowerCase())
      if (other !== undefined)
        context.addIssue({
          code: 'custom',
          path: [name],
          message: `expected a service of another name, "${other}" is the same: names are compared without case`,
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
            message: `expected a path of one service only, "${other}" has it too`,
          })
        }
        owner.set(path, name)
      }
    }
  })

const RULE_NAME_PATTERN = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/
/** What a query, a cookie or a form may call a field, so that each program that reads it means the same. */
const FIELD_NAME = /^[A-Za-z0-9_.-]{1,64}$/
const BODY_OCTETS_MAX = 1024 * 1024
/** No program is known to read a body of these (RFC 9110 section 9.3). */
const WITHOUT_BODY: ReadonlySet<string> = new Set(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE'])
const SOURCES = ['header', 'query', 'path', 'host', 'cookie', 'json', 'form'] as const

/** What Envoy still takes of the expression and the conditions that are made of the rules (docs/decisions/0023). */
const RULES_MAX = 16
const PATTERNS_MAX = 64
const METHODS_MAX = 16
const METHOD_LENGTH_MAX = 32
const HEADER_LENGTH_MAX = 128
const PATH_LENGTH_MAX = 256
const HOST_LENGTH_MAX = 253
/** Envoy takes no longer regular expression in an expression. */
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
  .refine((name) => !isLostOnTheWay(name), 'expected a header that gets as far as the processor')

/** One place of a request. */
const source = z
  .strictObject({
    header: header.optional().describe('A request header.'),
    query: fieldName.optional().describe('A parameter of the query.'),
    path: z
      .string()
      .max(PATH_LENGTH_MAX)
      .regex(/^\/[^?#{}]*\{id\}[^?#{}]*$/, 'expected a path with {id} once, like "/cb/{id}/*"')
      .refine(isPlainTemplate, 'expected `*` at the end only, behind a "/"')
      .optional()
      .describe('The path with {id} in its place; a final /* stands for any rest.'),
    host: z
      .string()
      .max(HOST_LENGTH_MAX)
      .regex(/^[A-Za-z0-9.-]*\{id\}[A-Za-z0-9.-]*$/, 'expected a host with {id} once, like "{id}.cb.example"')
      .optional()
      .describe('The host with {id} in its place, without the port.'),
    cookie: fieldName.optional().describe('A cookie.'),
    json: z
      .string()
      .max(POINTER_LENGTH_MAX)
      .regex(/^(?:\/(?:[^/~]|~[01])+){1,16}$/, 'expected a JSON pointer (RFC 6901), like "/attach/server"')
      .optional()
      .describe('A text or an integer in a JSON body: a JSON pointer.'),
    form: fieldName.optional().describe('A field of a body of the type application/x-www-form-urlencoded.'),
  })
  .refine((value) => Object.keys(value).length === 1, {
    message: `expected one of ${SOURCES.join(', ')}`,
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
      .regex(RULE_NAME_PATTERN, 'expected small letters, digits and hyphens, 32 at most')
      .optional()
      .describe('Name of the rule, in a list.'),
    match: z
      .strictObject({
        paths: z
          .array(pathPattern)
          .min(1)
          .max(PATTERNS_MAX)
          .optional()
          .describe('Paths without the query: literal, or a prefix with a final *.'),
        hosts: z
          .array(hostPattern)
          .min(1)
          .max(PATTERNS_MAX)
          .optional()
          .describe('Hosts without the port: literal, or a prefix with a final *.'),
      })
      .optional()
      .describe('Which requests the rule is for; without it, all.'),
    methods: z
      .array(z.string().max(METHOD_LENGTH_MAX).regex(METHOD, 'expected a method in upper case'))
      .min(1)
      .max(METHODS_MAX)
      .default(['POST'])
      .describe('Methods that are forwarded; every other is refused with 405.'),
    header: header.optional().describe('Short for id: { header: ... }; without both, "server".'),
    id: z
      .array(source)
      .min(1)
      .max(8)
      .optional()
      .describe(
        "Where a request says its zone's id: a place, or a list of which the first that is there counts.",
      ),
    idPattern: z
      .string()
      .superRefine(mustCompile)
      .default('^[A-Za-z0-9-]{1,40}$')
      .describe('Regular expression that an id must match, else 403.'),
    host: z
      .string()
      .refine((text) => text.includes('{id}'), 'expected a pattern that contains {id}')
      .refine(hasKnownPlaceholders, 'expected no placeholder but {id}, {service} and {search}')
      .refine(
        staysInDomain,
        'expected a domain behind the label with {id}, like ".{search}": else ids lead out of it',
      )
      .default('zone{id}-{service}.{search}')
      .describe("A zone's name in DNS, made of {id}, {service} and {search}."),
    services: services
      .optional()
      .describe('Services by name; exactly one has no paths, and gets every other path.'),
    port: receiversPort
      .default(8101)
      .describe(
        "Port of the receivers, where a service names none of its own; srv: it is in SRV records of the zone's DNS.",
      ),
    upstream: upstream.optional(),
    bodyMaxBytes: z
      .int()
      .min(1)
      .max(BODY_OCTETS_MAX)
      .default(65_536)
      .describe('Octets of a body that is looked into; a longer one is refused with 413.'),
  })
  .superRefine((value, context) => {
    const fault = (key: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [key], message })
    if (value.id !== undefined && value.header !== undefined)
      fault('header', 'expected header or id, not both')
    const inBody = sourcesOf(value).some(({ json, form }) => json !== undefined || form !== undefined)
    const without = value.methods.filter((method) => WITHOUT_BODY.has(method))
    if (inBody && without.length > 0)
      fault('methods', `expected methods with a body, in which the id is, got ${without.join(', ')}`)
    const isStreamed = Object.values(servicesConfig(value)).some(
      (each) => (each.upstream ?? value.upstream)?.http === 2,
    )
    if (inBody && isStreamed)
      fault('id', 'expected a place outside of the body beside "http: 2", which streams bodies')
  })

type RuleInput = z.output<typeof rule>

const listen = z
  .strictObject({
    grpc: z
      .string()
      .refine(
        (text) => (text.startsWith('unix:') ? text.length > 5 : parseAddressPort(text) !== null),
        'expected unix:PATH or address:port, like 127.0.0.1:9004: Envoy looks up no name here',
      )
      .default('unix:run/processor.sock')
      .describe(
        'Where Envoy reaches the processor: unix:PATH (relative to the working directory) or address:port. A change needs a restart.',
      ),
    tls: z
      .strictObject({
        cert: pemFile.describe("The processor's certificate, then those that lead to its CA."),
        key: pemFile.describe('Its private key, without a passphrase.'),
        clientCa: pemFile.describe("Certificates of the CAs that sign Envoys' certificates."),
      })
      .nullable()
      .default(null)
      .describe(
        'Mutual TLS on listen.grpc, with PEM files whose contents are read again when they change. Which files needs a restart.',
      ),
    insecure: z
      .boolean()
      .default(false)
      .describe(
        'Lets listen.grpc be an address that is not loopback without listen.tls: whoever reaches it is taken for an Envoy.',
      ),
    http: hostPort
      .default('127.0.0.1:9003')
      .describe(
        "Health, metrics, status and the operator's page. Anywhere but on loopback it needs a token. A change needs a restart.",
      ),
    httpToken: z
      .string()
      .regex(/^[\x21-\x7e]{16,}$/, 'expected 16 printable characters or more, without spaces')
      .nullable()
      .default(null)
      .describe(
        'What clients of listen.http must send: "Authorization: Bearer TOKEN". /healthz and /readyz need none.',
      ),
    httpTokenFile: z
      .string()
      .min(1)
      .nullable()
      .default(null)
      .describe('Instead of httpToken: a file that holds it, such as a secret that is mounted.'),
  })
  .superRefine(({ grpc, tls, insecure }, context) => {
    const host = parseAddressPort(grpc)?.host
    const fault = (key: string, message: string, input?: unknown): void =>
      context.addIssue({ code: 'custom', path: [key], message, ...(input !== undefined && { input }) })
    if (tls !== null && grpc.startsWith('unix:'))
      fault('tls', 'expected address:port as listen.grpc beside it; a Unix socket needs none')
    else if (tls !== null && insecure) fault('insecure', 'expected listen.tls or listen.insecure, not both')
    else if (host !== undefined && !isLoopback(host) && tls === null && !insecure)
      fault(
        'grpc',
        'expected listen.tls (or listen.insecure: true) beside an address that is not loopback',
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
      const message =
        'expected listen.httpToken or listen.httpTokenFile beside an address that is not loopback'
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
    .describe(
      'What a request is and where it goes. The first rule that fits decides; one rule needs no list.',
    ),
  zones: zones.prefault({}),
  dns: z
    .strictObject({
      resolvConf: z
        .string()
        .min(1)
        .default('/etc/resolv.conf')
        .describe('Names the nameservers and the search domain; watched.'),
      nameservers: z
        .array(nameserver)
        .min(1)
        .max(NAMESERVERS_MAX)
        .nullable()
        .default(null)
        .describe('Instead of what resolv.conf says.'),
      search: z
        .string()
        .regex(DOMAIN_NAME, 'expected a domain name')
        .refine(isNoPlaceholder, "expected your zones' search domain in place of this placeholder")
        .nullable()
        .default(null)
        .describe('Instead of what resolv.conf says.'),
      budgetMs: milliseconds
        .default(1500)
        .describe('The longest a request waits for DNS. Below message_timeout of ext_proc.'),
      timeoutMs: milliseconds.nullable().default(null).describe("One try; null: resolv.conf's timeout."),
      attempts: z
        .int()
        .min(1)
        .max(5)
        .nullable()
        .default(null)
        .describe("Rounds over all nameservers; null: resolv.conf's."),
      rotate: z
        .boolean()
        .nullable()
        .default(null)
        .describe('Spread over the nameservers; null: as resolv.conf says.'),
      family: z
        .enum(['ipv4', 'ipv6', 'both'])
        .default('ipv4')
        .describe('Addresses that are asked for: A, AAAA or both records.'),
      ttlSeconds: z
        .strictObject({
          min: seconds.default(5).describe('A shorter TTL is taken as this one; 0 stays 0.'),
          max: seconds.min(1).default(60).describe('A longer TTL is taken as this one.'),
        })
        .refine(({ min, max }) => min <= max, 'expected min to be at most max')
        .prefault({}),
      staleSeconds: seconds
        .default(3600)
        .describe('How long past its TTL an answer serves while nameservers fail (RFC 8767).'),
      negativeTtlSecondsMax: seconds
        .default(30)
        .describe('The longest that NXDOMAIN and NODATA are believed (RFC 2308).'),
      cacheEntriesMax: z
        .int()
        .min(16)
        .max(10_000_000)
        .default(10_000)
        .describe('Names in the cache; the least useful goes first.'),
      queriesInFlightMax: z
        .int()
        .min(1)
        .max(65_536)
        .default(1024)
        .describe('Queries at once; a request that would need one more is refused with 502.'),
      unknownNames: z
        .strictObject({
          queriesPerSecond: z
            .int()
            .min(1)
            .max(1_000_000)
            .default(500)
            .describe('Queries a second for names that are not in use; beyond it their requests get 502.'),
          queriesBurst: z
            .int()
            .min(8)
            .max(1_000_000)
            .default(2000)
            .describe('So many at once after a pause; a quarter of them is left for retries.'),
        })
        .prefault({}),
    })
    .refine(({ family, queriesInFlightMax }) => family !== 'both' || queriesInFlightMax > 1, {
      path: ['queriesInFlightMax'],
      message: 'expected 2 or more beside "family: both", which asks two queries at once',
    })
    .prefault({}),
  addresses: z
    .strictObject({
      allow: z
        .array(z.string().refine(isCidr, 'expected a CIDR, like 127.0.0.0/8'))
        .default([])
        .describe(
          'CIDRs let through although they are denied: loopback, link-local, multicast and their like.',
        ),
      ports: z
        .array(portRange)
        .min(1)
        .max(PORT_RANGES_MAX)
        .nullable()
        .default(null)
        .describe(
          'Ports that SRV records may lead to: numbers, and ranges like 8000-8999; null: 1024 to 65535.',
        ),
    })
    .prefault({}),
  learned: z
    .strictObject({
      enabled: z
        .boolean()
        .default(true)
        .describe('Zones in use are routed inside Envoy; false: every request asks the processor.'),
      zonesMax: z
        .int()
        .min(1)
        .max(100_000)
        .default(2000)
        .describe('Zones routed inside Envoy at once; the least recently used goes first.'),
      idleSeconds: z
        .int()
        .min(1)
        .max(86_400)
        .default(600)
        .describe('A zone without requests for so long asks again.'),
      sharedRoutes: z
        .boolean()
        .nullable()
        .default(null)
        .describe(
          'Routes of many zones stand in one virtual host of Envoy. null: with a zonesMax of more than 5,000.',
        ),
    })
    .prefault({}),
  fallback: z
    .strictObject({
      enabled: z
        .boolean()
        .default(false)
        .describe('While the processor is away or silent, Envoy resolves the names of zones itself.'),
    })
    .prefault({}),
  tracing: z
    .strictObject({
      otlp: z
        .string()
        .refine(
          (text) => collectorOf(text) !== null,
          'expected http://HOST:PORT of a collector of OTLP over gRPC, like http://127.0.0.1:4317',
        )
        .nullable()
        .default(null)
        .describe('Where Envoy and the processor send spans: OTLP over gRPC; null: no request is traced.'),
      samplePercent: z
        .number()
        .min(0)
        .max(100)
        .default(100)
        .describe(
          'Requests that may be traced, in percent; one with a traceparent is, where its flag says so, too.',
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
        .describe('Zones that metrics name, those that lost the most requests; 0: none.'),
    })
    .prefault({}),
  history: z
    .strictObject({
      bytes: z
        .int()
        .min(1_048_576)
        .max(1_073_741_824)
        .default(16_777_216)
        .describe('Octets of memory for what happened, the oldest of which makes room; as many on disk.'),
      path: z
        .string()
        .min(1)
        .nullable()
        .default(null)
        .describe('File that keeps it over a restart, and another beside it (.1); null: memory only.'),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z
        .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
        .default('info')
        .describe(
          'The least important lines that are written. debug has a line for each request that asked.',
        ),
    })
    .prefault({}),
})

/** `.invalid` never exists (RFC 2606 section 2): deploy/kubernetes has it where something of yours belongs. */
function isNoPlaceholder(domain: string): boolean {
  return !/\.invalid\.?$/i.test(domain)
}

/**
 * The whole of `zonegate.yaml`. Every key may be left out; the defaults are the OpenResty recipe's behaviour where it
 * has one. Retries, timeouts towards zones and circuit breakers are Envoy's, in `envoy/`.
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
      'expected false beside zones: Envoy, which resolves names itself then, knows nothing of them'
    context.addIssue({ code: 'custom', path: ['fallback', 'enabled'], message })
  }
}

/** What the rules make together may be too long for Envoy, whatever each of them is. */
function fitsEnvoy(config: z.output<typeof keys>, context: z.RefinementCtx): void {
  if (context.issues.length > 0) return
  const lengths = keyMutations(rulesOf(config), new Set()).map((mutation) =>
    'append' in mutation ? mutation.append.header.value.length : 0,
  )
  const length = Math.max(...lengths)
  if (length <= FORMAT_LENGTH_MAX) return
  const message = `expected less: Envoy's expression for the rules has ${length} characters, and may have ${FORMAT_LENGTH_MAX}; fewer or shorter paths, hosts and places of ids make it shorter`
  context.addIssue({ code: 'custom', path: ['rules'], message, input: config.rules })
}

/**
 * CAs and pairs of certificate and key, each counted once. Envoy watches each in two places, and ends where it gets no watch: Linux
 * lets a user have 128 (fs.inotify.max_user_instances), all of his programs together. Those of two changes before may still be there.
 */
const TLS_FILES_MAX = 16

function fitsInotify(config: z.output<typeof keys>, context: z.RefinementCtx): void {
  if (context.issues.length > 0) return
  const files = upstreamsOf(rulesOf(config)).flatMap(({ tls }) =>
    tls === null ? [] : [`ca ${tls.ca}`, ...(tls.client === null ? [] : [JSON.stringify(tls.client)])],
  )
  const count = new Set(files).size
  if (count <= TLS_FILES_MAX) return
  const message = `expected less: upstream.tls has ${count} different files, a pair of cert and key as one, and may have ${TLS_FILES_MAX}, as Envoy watches each; one file of ca may hold several CAs`
  context.addIssue({ code: 'custom', path: ['rules'], message, input: config.rules })
}

/**
 * Whoever lets loopback through, and by SRV lets DNS choose the port, lets DNS choose Envoy's admin page.
 */
function namesPorts({ rules, addresses }: z.output<typeof keys>, context: z.RefinementCtx): void {
  if (
    addresses.ports !== null ||
    addresses.allow.length === 0 ||
    rules.every((rule) => srvPatternsOf(rule).length === 0)
  )
    return
  const message =
    "expected addresses.ports, too, as a rule has port: srv: else DNS could lead to the gateway's own ports"
  context.addIssue({ code: 'custom', path: ['addresses', 'allow'], message })
}

function namesZones({ rules, dns }: z.output<typeof keys>, context: z.RefinementCtx): void {
  for (const [index, each] of rules.entries()) {
    const fault = (path: PropertyKey[], message: string, input: string): void =>
      context.addIssue({ code: 'custom', path, message, input })
    const srvs = srvPatternsOf(each)
    // Unknown placeholders are faults of their own.
    if (![each.host, ...srvs.map(({ srv }) => srv.replaceAll('{name}', ''))].every(hasKnownPlaceholders))
      continue
    const hostFault = zoneNameFault(withoutSrv(each), 'a')
    if (hostFault !== null) {
      fault(['rules', index, 'host'], `expected a pattern of a host name, this ${hostFault}`, each.host)
      continue
    }
    const wrong = srvs.find(
      ({ service, srv }) => nameOf(each.host, '1', { label: service, srv }, 'a') === null,
    )
    if (wrong !== undefined) {
      const made = fillName(each.host, '1', { label: wrong.service, srv: wrong.srv }, 'a')
      const message = `expected a pattern of a name of SRV records, this makes "${made}"`
      fault(['rules', index, ...wrong.path, 'srv'], message, wrong.srv)
    } else if (dns.search !== null && DOMAIN_NAME.test(dns.search)) {
      const searchFault = zoneNameFault(each, dns.search)
      const message = `expected a domain that rules.host can name zones with, this ${searchFault}`
      if (searchFault !== null) fault(['dns', 'search'], message, dns.search)
    }
  }
}

/** The patterns of a rule's services that have one, and where they stand. */
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

/** Where one will do, no list need be written: of rules, and of places of an id. */
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

/** Where in what was written a path leads that is one of the schema's: to one rule without a list, say. */
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

/** In a list each rule has a name of its own. */
function namesDiffer(rules: readonly RuleInput[], context: z.RefinementCtx): void {
  const seen = new Set<string>()
  for (const [index, { name }] of rules.entries()) {
    const fault = (message: string): void =>
      context.addIssue({ code: 'custom', path: [index, 'name'], message })
    if (name === undefined && rules.length > 1) fault('expected a name: several rules are told apart by it')
    else if (name !== undefined && seen.has(name)) fault(`expected another name, a rule before is "${name}"`)
    seen.add(name ?? RULE_NAME)
  }
}

/** A rule that a rule before takes everything from is a mistake. */
function eachCanMatch(rules: readonly RuleInput[], context: z.RefinementCtx): void {
  for (const [index, { match }] of rules.entries()) {
    const before = rules.slice(0, index).find((earlier) => takesAll(earlier.match, match))
    if (before === undefined) continue
    const message = `expected a rule that some request comes to: "${before.name ?? RULE_NAME}" before it takes them all`
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

/** Whoever chooses an id must not choose the domain: that is `{search}`, or written out, and the whole end of the name. */
function staysInDomain(host: string): boolean {
  if (!host.includes('{id}') || !hasKnownPlaceholders(host)) return true // which are faults of their own
  return endsInDomain(host)
}

function endsInDomain(host: string): boolean {
  return /\.(?:\{search\}|[a-z0-9-]+(?:\.[a-z0-9-]+)*)\.?$/i.test(host) && !/\{search\}./.test(host)
}

function isPlainTemplate(text: string): boolean {
  return /^[^*]*(?:\/\*)?$/.test(text)
}

/** Why a rule and a search domain name no zone, whatever the id; null: they do. */
export function zoneNameFault(rule: RuleConfig, search: string): string | null {
  const domain = search.replace(/\.$/, '')
  for (const [key, { port = rule.port }] of Object.entries(servicesConfig(rule))) {
    const service = { label: key.toLowerCase(), ...portOf(port) }
    if (nameOf(rule.host, '1', service, domain) === null)
      return `makes no host name (labels of up to 63 letters, digits and hyphens, 253 characters in all), as in "${fillName(rule.host, '1', service, domain)}"`
  }
  return null
}

/** The ports that SRV records may lead to. */
export function portsOf({ addresses }: Config): readonly PortRange[] {
  return (
    addresses.ports?.map((range) => (typeof range === 'number' ? [range, range] : rangeOf(range))) ??
    PORTS_OF_SRV
  )
}

function rangeOf(text: string): PortRange {
  const range = parsePortRange(text)
  if (range === null) throw new Error(`the schema lets through only ranges of ports, not "${text}"`)
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

/** Splits `host:port` and `[v6]:port`; null when it is neither. */
export function parseHostPort(text: string): { host: string; port: number } | null {
  const match = HOST_PORT.exec(text)
  if (match === null) return null
  const host = match[1] ?? match[2] ?? ''
  const number = Number(match[3])
  if (number < 1 || number > 65_535) return null
  if (match[1] !== undefined && !isIPv6(host)) return null
  return { host, port: number }
}

/** As `parseHostPort`, of an address that Envoy takes: no name, and a scope only where there are several. */
export function parseAddressPort(text: string): { host: string; port: number } | null {
  const parsed = parseHostPort(text)
  if (parsed === null || isIP(parsed.host) === 0) return null
  return parsed.host.includes('%') && !LINK_LOCAL.test(parsed.host) ? null : parsed
}

/** As `parseHostPort`, of an address or a host name. */
function parseNamedPort(text: string): { host: string; port: number } | null {
  const parsed = parseHostPort(text)
  return parsed !== null && (isIP(parsed.host) !== 0 || isHostName(parsed.host)) ? parsed : null
}

/** Host and port of `http://HOST:PORT`; null where it is something else. */
export function collectorOf(url: string): { host: string; port: number } | null {
  return url.startsWith('http://') ? parseNamedPort(url.slice('http://'.length).replace(/\/$/, '')) : null
}

/** As `parseHostPort`, of what the schema let through. */
export function hostPortOf(text: string): { host: string; port: number } {
  const parsed = parseHostPort(text)
  if (parsed === null) throw new Error(`the schema lets through only host:port, not "${text}"`)
  return parsed
}

/** True for an address, or the name, by which only this machine can be reached. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** What ends in a number would be an address (RFC 3696 section 2), and is none. */
function isHostName(host: string): boolean {
  return DOMAIN_NAME.test(host) && !/(?:^|\.)\d+\.?$/.test(host)
}

/** Names that Envoy uses itself, writes itself, or drops, as those with `_`: none of these ever carries an id. */
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
    fault(
      'expected a regular expression that no id keeps busy: repetitions in each other, or many in a row, do',
    )
}
