import { isIP, isIPv4, isIPv6 } from 'node:net'
import * as z from 'zod'

/** `host:port`, `[v6]:port`; a port from 1 to 65535. */
const HOST_PORT = /^(?:\[([^\]]+)\]|([^\s:[\]/]+)):(\d{1,5})$/
/** A domain name: letters, digits and hyphens, labels up to 63 octets (RFC 1123 section 2.1), an optional final dot. */
const DOMAIN_NAME = /^(?=.{1,254}$)(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.?$/i
const SERVICE_NAME = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/i
const METHOD = /^[A-Z]+$/
const NAMESERVERS_MAX = 16
const HEADER_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]+$/

const port = z.int().min(1).max(65_535)
const hostPort = z
  .string()
  .refine((text) => parseHostPort(text) !== null, 'expected host:port, like 127.0.0.1:9003')
const nameserver = z.string().refine((text) => {
  const parsed = parseHostPort(text)
  return parsed !== null && isIP(parsed.host.replace(/%.*$/, '')) !== 0
}, 'expected address:port, like 127.0.0.1:53 or [::1]:53')

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
  port: port.optional().describe("Port of this service's receivers."),
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

const tlsFile = z.string().min(1, 'expected the path of a PEM file')

const listen = z
  .strictObject({
    grpc: z
      .string()
      .refine(
        (text) => (text.startsWith('unix:') ? text.length > 5 : parseHostPort(text) !== null),
        'expected unix:PATH or host:port',
      )
      .default('unix:run/processor.sock')
      .describe(
        'Where Envoy reaches the processor: unix:PATH (relative to the working directory) or host:port. A change needs a restart.',
      ),
    tls: z
      .strictObject({
        cert: tlsFile.describe("The processor's certificate, then those that lead to its CA."),
        key: tlsFile.describe('Its private key, without a passphrase.'),
        clientCa: tlsFile.describe("Certificates of the CAs that sign Envoys' certificates."),
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
    const host = parseHostPort(grpc)?.host
    const fault = (key: string, message: string, input?: unknown): void =>
      context.addIssue({ code: 'custom', path: [key], message, ...(input !== undefined && { input }) })
    if (tls !== null && grpc.startsWith('unix:'))
      fault('tls', 'expected host:port as listen.grpc beside it; a Unix socket needs none')
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
    const host = parseHostPort(http)?.host
    if (host !== undefined && !isLoopback(host) && httpToken === null && httpTokenFile === null) {
      const message =
        'expected listen.httpToken or listen.httpTokenFile beside an address that is not loopback'
      context.addIssue({ code: 'custom', path: ['http'], message, input: http })
    }
  })

const seconds = z.int().min(0).max(86_400)
const milliseconds = z.int().min(1).max(60_000)

/**
 * The whole of `zonegate.yaml`. Every key may be left out; the defaults are the OpenResty recipe's behaviour where it
 * has one. Retries, timeouts towards zones and circuit breakers are Envoy's, in `envoy/`.
 */
export const configSchema = z.strictObject({
  listen: listen.prefault({}),
  rules: z
    .strictObject({
      methods: z
        .array(z.string().regex(METHOD, 'expected a method in upper case'))
        .min(1)
        .default(['POST'])
        .describe('Methods that are forwarded; every other is refused with 405.'),
      header: z
        .string()
        .toLowerCase()
        .regex(HEADER_NAME, 'expected a header name')
        .default('server')
        .describe("Request header with the zone's id."),
      idPattern: z
        .string()
        .superRefine(mustCompile)
        .default('^[A-Za-z0-9-]{1,40}$')
        .describe('Regular expression that an id must match, else 403.'),
      host: z
        .string()
        .refine((text) => text.includes('{id}'), 'expected a pattern that contains {id}')
        .refine(
          (text) => !/[{}]/.test(text.replace(/\{(?:id|service|search)\}/g, '')),
          'expected no placeholder but {id}, {service} and {search}',
        )
        .default('zone{id}-{service}.{search}')
        .describe("A zone's name in DNS, made of {id}, {service} and {search}."),
      services: services
        .prefault({ mail: { paths: ['/mail'] }, default: {} })
        .describe('Services by name; exactly one has no paths, and gets every other path.'),
      port: port.default(8101).describe('Port of the receivers, where a service names none of its own.'),
    })
    .prefault({}),
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
    .prefault({}),
  addresses: z
    .strictObject({
      allow: z
        .array(z.string().refine(isCidr, 'expected a CIDR, like 127.0.0.0/8'))
        .default([])
        .describe(
          'CIDRs let through although they are denied: loopback, link-local, multicast and their like.',
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

export type Config = z.output<typeof configSchema>

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

function isCidr(text: string): boolean {
  const [address = '', prefix = '', ...rest] = text.split('/')
  const family = isIP(address)
  return (
    rest.length === 0 &&
    family !== 0 &&
    /^\d{1,3}$/.test(prefix) &&
    Number(prefix) <= (family === 4 ? 32 : 128)
  )
}

function mustCompile(text: string, context: z.RefinementCtx): void {
  try {
    new RegExp(text)
  } catch (error) {
    context.addIssue({
      code: 'custom',
      message: `expected a regular expression (${(error as Error).message})`,
    })
  }
}
