import { dirname } from 'node:path'
import * as z from 'zod'
import { IS_IN_BODY, type SourceKind } from '../routing/id-sources.ts'
import { covers, patternOf } from '../routing/patterns.ts'
import { fillHost, type Service } from '../routing/rules.ts'
import { isHostName } from './host-port.ts'
import { isSlow } from './slow-pattern.ts'

const SERVICE_NAME = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/i
const METHOD = /^[A-Z]+$/
/** Headers of the connection (RFC 9110 section 7.6.1, RFC 9113 section 8.3), which no proxy forwards as they came. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  ...['host', 'connection', 'content-length', 'expect', 'keep-alive', 'proxy-connection'],
  ...['te', 'trailer', 'transfer-encoding', 'upgrade'],
])
const HEADER_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]+$/

export const port = z.int().min(1).max(65_535)
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

export const pemFile = z.string().min(1, 'expected the path of a PEM file')

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

/** The section `rules`. */
export const rules = z.array(rule).min(1).max(RULES_MAX).superRefine(namesDiffer).superRefine(eachCanMatch)

/** One of the rules, as checked. */
export type RuleConfig = z.output<typeof rule>
/** One place of an id: a single key. */
export type SourceConfig = z.output<typeof source>

/** The name of a rule that has none. */
export const RULE_NAME = 'default'
/** The default name of SRV records. */
const SRV_PATTERN = '_{service}._tcp.{name}'
/** The services of the OpenResty recipe, for a rule without a name. */
const RECIPE_SERVICES: NonNullable<RuleConfig['services']> = { mail: { paths: ['/mail'] }, default: {} }

/** The services of a rule as in zonegate.yaml. A rule with a name and without services has one service of that name. */
export function servicesConfig({ name, services }: RuleConfig): NonNullable<RuleConfig['services']> {
  return services ?? (name === undefined ? RECIPE_SERVICES : { [name]: {} })
}

/** The port, or the name of the SRV records that have it. */
export function portOf(config: RuleConfig['port']): Pick<Service, 'port' | 'srv'> {
  if (typeof config === 'number') return { port: config }
  return { port: 0, srv: config === 'srv' ? SRV_PATTERN : config.srv }
}

/** Several rules have different names. */
function namesDiffer(rules: readonly RuleConfig[], context: z.RefinementCtx): void {
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
function eachCanMatch(rules: readonly RuleConfig[], context: z.RefinementCtx): void {
  for (const [index, { match }] of rules.entries()) {
    const before = rules.slice(0, index).find((earlier) => takesAll(earlier.match, match))
    if (before === undefined) continue
    const message = `expected a rule that can match: the earlier rule "${before.name ?? RULE_NAME}" takes all its requests`
    context.addIssue({ code: 'custom', path: match === undefined ? [index] : [index, 'match'], message })
  }
}

function takesAll(first: RuleConfig['match'], second: RuleConfig['match']): boolean {
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

/** Headers that can't carry an id, because Envoy uses, sets or drops them. It drops names with `_`. */
function isLostOnTheWay(header: string): boolean {
  return (
    /_|^x-(?:envoy|zonegate)-|^x-forwarded-(?:host|proto)$|^x-request-id$/.test(header) ||
    HOP_BY_HOP.has(header)
  )
}

export function hasKnownPlaceholders(host: string): boolean {
  return !/[{}]/.test(host.replace(/\{(?:id|service|search)\}/g, ''))
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
