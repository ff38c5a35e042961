import { isIP, isIPv6 } from 'node:net'
import * as z from 'zod'
import { ipOctets, ipv6Text } from '../dns/ip-address.ts'
import { addressPolicy } from '../routing/denied-addresses.ts'
import { isId, type Rules, servicesOf } from '../routing/rules.ts'
import { isFor, type PinnedAddress, type SaidEntry, saidOfZones } from '../routing/said.ts'

/** The key for ids that DNS does not know. */
const UNKNOWN_IDS = '*'
/** Ids in all entries together. Each id has its own entry in a map. */
const IDS_MAX = 10_000
const ID = /^[a-z0-9-]{1,63}$/i
/** No leading zero: 7 and 007 are different ids. */
const RANGE = /^(0|[1-9]\d{0,14})-(0|[1-9]\d{0,14})$/
/** As many as a DNS answer may have. */
const ADDRESSES_MAX = 32
const TEXT_LENGTH_MAX = 200
/** A day. */
const RETRY_AFTER_SECONDS_MAX = 86_400
const STATUS = { min: 400, max: 599, default: 503 } as const

const address = z
  .string()
  .refine(
    (text) => parsePinned(text) !== null,
    'expected an address, or one with its port: 10.0.0.5, 10.0.0.6:9000, [2001:db8::1]:9000',
  )

const SAYS = ['addresses', 'as', 'maintenance', 'fallback'] as const

const entry = z
  .strictObject({
    addresses: z
      .array(address)
      .min(1)
      .max(ADDRESSES_MAX)
      .optional()
      .describe('Send requests to these addresses instead of asking DNS. Default port: that of the service.'),
    as: z
      .string()
      .regex(ID, 'expected an id, like "1020"')
      .toLowerCase()
      .optional()
      .describe('Id of the zone that this zone was merged into.'),
    maintenance: z
      .string()
      .min(1)
      .max(TEXT_LENGTH_MAX)
      .regex(/^[^\p{Cc}]*$/u, 'expected a text without control characters')
      .optional()
      .describe('Refuse all requests and send this text to callers.'),
    status: z
      .int()
      .min(STATUS.min)
      .max(STATUS.max)
      .optional()
      .describe(`HTTP status for maintenance. Default: ${STATUS.default}.`),
    retryAfterSeconds: z
      .int()
      .min(1)
      .max(RETRY_AFTER_SECONDS_MAX)
      .optional()
      .describe('Value of the retry-after header for maintenance.'),
    fallback: z
      .string()
      .regex(ID, 'expected an id, like "0"')
      .toLowerCase()
      .optional()
      .describe('Only for "*": id of the zone that gets the requests for ids that DNS does not know.'),
  })
  .superRefine((value, context) => {
    if (context.issues.length > 0) return
    const fault = (message: string, key?: string): void =>
      context.addIssue({ code: 'custom', path: key === undefined ? [] : [key], message })
    const said = SAYS.filter((key) => value[key] !== undefined)
    if (said.length !== 1) fault(`expected exactly one of ${SAYS.join(', ')}`, said[1])
    if (value.maintenance === undefined)
      for (const key of ['status', 'retryAfterSeconds'] as const)
        if (value[key] !== undefined) fault('expected maintenance with it', key)
  })

type Entry = z.output<typeof entry>

export const zones = z
  .record(z.string(), entry)
  .superRefine((value, context) => {
    const owners = new Map<string, string>()
    let count = 0
    for (const [key, said] of Object.entries(value)) {
      const fault = (message: string): void => context.addIssue({ code: 'custom', path: [key], message })
      const parsed = parseZones(key)
      if (typeof parsed === 'string') {
        fault(parsed)
        continue
      }
      const isUnknown = parsed.ids.includes(UNKNOWN_IDS)
      if (isUnknown !== (said.fallback !== undefined))
        fault(
          isUnknown
            ? 'expected fallback, because "*" is for ids that DNS does not know'
            : 'expected no fallback, which is only for "*"',
        )
      count += parsed.ids.length
      if (count > IDS_MAX) return fault(`expected ${IDS_MAX} ids or fewer in all entries together`)
      for (const id of parsed.ids) {
        const own = `${parsed.place ?? ''}/${id}`
        const other = owners.get(own)
        if (other !== undefined) {
          fault(`expected ids that no other entry has: "${other}" has ${id}, too`)
          break
        }
        owners.set(own, key)
      }
    }
  })
  .describe('Exceptions to DNS, by id: pinned, merged or in maintenance.')

export type ZonesConfig = z.output<typeof zones>

/** The entries of `zones`, already checked by the schema. */
export function saidEntries(config: ZonesConfig): SaidEntry[] {
  return Object.entries(config).map(([key, said]) => {
    const parsed = parseZones(key)
    if (typeof parsed === 'string') throw new Error('the schema accepts only keys that are ids')
    return { key: `zones.${key}`, ...parsed, says: sayingOf(said, `zones.${key}`) }
  })
}

function sayingOf(said: Entry, key: string): SaidEntry['says'] {
  const { addresses, as, maintenance, status = STATUS.default, retryAfterSeconds = null, fallback } = said
  if (addresses !== undefined) return { kind: 'pinned', addresses: addresses.map(pinnedAddress), by: { key } }
  if (as !== undefined) return { kind: 'merged', as }
  if (maintenance !== undefined) return { kind: 'maintenance', text: maintenance, status, retryAfterSeconds }
  return { kind: 'fallback', as: fallback ?? '' }
}

function pinnedAddress(text: string): PinnedAddress {
  const parsed = parsePinned(text)
  if (parsed === null) throw new Error('the schema accepts only addresses')
  return parsed
}

/** `10.0.0.5`, `10.0.0.6:9000`, `2001:db8::1`, `[2001:db8::1]:9000`. Null for anything else. */
export function parsePinned(text: string): PinnedAddress | null {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? []
  const host = bracketed ?? plain ?? text
  if (isIP(host) === 0 || host.includes('%') || (bracketed !== undefined && !isIPv6(host))) return null
  const number = port === undefined ? null : Number(port)
  if (number !== null && (number < 1 || number > 65_535)) return null
  return { address: isIPv6(host) ? ipv6Text(ipOctets(host)) : host, port: number }
}

/**
 * The zones that a key is for: `12`, `1001-1020`, `7, 8`, `*`, and `mail/12` for one service or rule. Ids are in lower case.
 * @returns an error text for anything else
 */
export function parseZones(key: string): Pick<SaidEntry, 'place' | 'ids'> | string {
  const at = key.indexOf('/')
  const place = at < 0 ? null : key.slice(0, at).toLowerCase()
  const texts = key.slice(at + 1).split(',')
  const ids: string[] = []
  for (const text of texts.map((part) => part.trim().toLowerCase())) {
    if (text === UNKNOWN_IDS && texts.length === 1) return { place, ids: [UNKNOWN_IDS] }
    const [, first, last] = RANGE.exec(text) ?? []
    if (first === undefined) {
      if (!ID.test(text))
        return 'expected ids, like "12", "1001-1020" or "7, 8", or "mail/12" for one service'
      ids.push(text)
      continue
    }
    const [from, to] = [Number(first), Number(last)]
    if (to <= from) return `expected a range from the smaller number to the larger one, got "${text}"`
    if (to - from >= IDS_MAX) return `expected ${IDS_MAX} ids or fewer in a range, got "${text}"`
    for (let id = from; id <= to; id++) ids.push(String(id))
  }
  return { place, ids }
}

export interface ZonesFault {
  /** Below `zones`. */
  readonly path: readonly (string | number)[]
  readonly message: string
  readonly input?: unknown
}

/** What of `zones` goes wrong with the rules, or with the addresses that zones may have. */
export function zonesFaults(config: ZonesConfig, rules: Rules, allow: readonly string[]): ZonesFault[] {
  const admit = addressPolicy(allow)
  const entries = saidEntries(config)
  const services = rules.flatMap((rule) => servicesOf(rule).map((service) => ({ rule, service })))
  const names = new Set(services.map(({ service }) => service.name))
  const said = saidOfZones(
    entries,
    services.map(({ service }) => service),
    admit,
  )
  return entries.flatMap((each) => {
    const key = each.key.slice('zones.'.length)
    const at = (message: string, ...path: (string | number)[]): ZonesFault[] => [
      { path: [key, ...path], message },
    ]
    const own = services.filter(({ service }) => isFor(each, service, names))
    if (own.length === 0) {
      const known = [...new Set(services.flatMap(({ service }) => [service.name, service.rule]))]
      return at(`expected a service or a rule in front of "/", one of ${known.join(', ')}`)
    }
    const stranger = each.ids.find((id) => id !== UNKNOWN_IDS && !own.some(({ rule }) => isId(id, rule)))
    if (stranger !== undefined) return at(`expected ids that idPattern lets through, "${stranger}" is none`)
    const { says } = each
    if (says.kind === 'pinned')
      return says.addresses.flatMap(({ address, port }, index) => {
        const withoutPort = own.find(({ service }) => service.srv !== undefined)?.service
        if (port === null && withoutPort !== undefined)
          return at(
            `expected a port, too: ${withoutPort.name} has its ports from SRV records${own.length > 1 ? '; SERVICE/ID in place of the id is for one service' : ''}`,
            'addresses',
            index,
          )
        if (admit(address)) return []
        const message = `expected an address that zones may have: addresses.allow doesn't let ${address} through`
        return at(message, 'addresses', index)
      })
    if (says.kind === 'maintenance') return []
    const field = says.kind === 'merged' ? 'as' : 'fallback'
    const concerned = own.filter(({ rule }) => each.ids.some((id) => id === UNKNOWN_IDS || isId(id, rule)))
    if (each.ids.every((id) => id === says.as)) return at('expected another id than its own', field)
    const foreign = concerned.find(({ rule }) => !isId(says.as, rule))
    if (foreign !== undefined)
      return at(`expected an id that idPattern of the rule ${foreign.rule.name} lets through`, field)
    const further = concerned
      .map(({ service }) => said.of(service, says.as)?.merged)
      .find((other) => other !== undefined)
    if (further !== undefined)
      return at(
        `expected a zone that is not merged itself, ${further.key} merges "${says.as}" into "${further.id}"`,
        field,
      )
    return []
  })
}
