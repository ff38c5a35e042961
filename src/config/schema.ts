import { isIP, isIPv6 } from 'node:net'
import * as z from 'zod'

/** `host:port`, `[v6]:port`; a port from 1 to 65535. */
const HOST_PORT = /^(?:\[([^\]]+)\]|([^\s:[\]/]+)):(\d{1,5})$/
/** A domain name: letters, digits and hyphens, labels up to 63 octets (RFC 1123 section 2.1), an optional final dot. */
const DOMAIN_NAME = /^(?=.{1,254}$)(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.?$/i
const SERVICE_NAME = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/i
const METHOD = /^[A-Z]+$/
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
    .optional(),
  port: port.optional(),
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

const seconds = z.int().min(0).max(86_400)
const milliseconds = z.int().min(1).max(60_000)

/**
 * The whole of `zonegate.yaml`. Every key may be left out; the defaults are the OpenResty recipe's behaviour where it
 * has one. Retries, timeouts towards zones and circuit breakers are Envoy's, in `envoy/`.
 */
export const configSchema = z.strictObject({
  listen: z
    .strictObject({
      grpc: z
        .string()
        .refine(
          (text) => (text.startsWith('unix:') ? text.length > 5 : parseHostPort(text) !== null),
          'expected unix:PATH or host:port',
        )
        .default('unix:run/processor.sock')
        .describe(
          'Where Envoy reaches the processor: unix:PATH (relative to the working directory) or host:port.',
        ),
      http: hostPort.default('127.0.0.1:9003').describe('Health and readiness over HTTP.'),
    })
    .prefault({}),
  rules: z
    .strictObject({
      methods: z.array(z.string().regex(METHOD, 'expected a method in upper case')).min(1).default(['POST']),
      header: z.string().toLowerCase().regex(HEADER_NAME, 'expected a header name').default('server'),
      idPattern: z.string().superRefine(mustCompile).default('^[A-Za-z0-9-]{1,40}$'),
      host: z
        .string()
        .refine((text) => text.includes('{id}'), 'expected a pattern that contains {id}')
        .refine(
          (text) => !/[{}]/.test(text.replace(/\{(?:id|service|search)\}/g, '')),
          'expected no placeholder but {id}, {service} and {search}',
        )
        .default('zone{id}-{service}.{search}'),
      services: services.prefault({ mail: { paths: ['/mail'] }, default: {} }),
      port: port.default(8101),
    })
    .prefault({}),
  dns: z
    .strictObject({
      resolvConf: z.string().min(1).default('/etc/resolv.conf'),
      nameservers: z
        .array(nameserver)
        .min(1)
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
      family: z.enum(['ipv4', 'ipv6', 'both']).default('ipv4'),
      ttlSeconds: z
        .strictObject({ min: seconds.default(5), max: seconds.min(1).default(60) })
        .refine(({ min, max }) => min <= max, 'expected min to be at most max')
        .prefault({}),
      staleSeconds: seconds
        .default(3600)
        .describe('How long past its TTL an answer serves while nameservers fail (RFC 8767).'),
      negativeTtlSecondsMax: seconds.default(30),
      cacheEntriesMax: z.int().min(16).max(10_000_000).default(10_000),
      queriesInFlightMax: z.int().min(1).max(65_536).default(1024),
    })
    .prefault({}),
  addresses: z
    .strictObject({
      allow: z.array(z.string().refine(isCidr, 'expected a CIDR, like 127.0.0.0/8')).default([]),
    })
    .prefault({}),
  learned: z
    .strictObject({
      enabled: z
        .boolean()
        .default(true)
        .describe('Zones in use are routed inside Envoy; false: every request asks the processor.'),
      zonesMax: z.int().min(1).max(100_000).default(2000),
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
      level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
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
