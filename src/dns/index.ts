/**
 * `zonegate/dns`: a caching stub resolver for Node. It caches by TTL, asks the next nameserver when one fails, and
 * answers with stale addresses while all of them fail.
 */
import type { LookupOptions } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import { TIMER_MS_MAX } from '../timers.ts'
import { type Answer, areEndpoints, type KeptName } from './answer.ts'
import { createDns } from './dns.ts'
import type { DnsEvent } from './events.ts'
import { ipOctets, ipv6Text } from './ip-address.ts'

export type {
  Addresses,
  Answer,
  Endpoint,
  FailedAnswer,
  KeptName,
  NegativeAnswer,
  PositiveAnswer,
  Try,
} from './answer.ts'
export { areEndpoints } from './answer.ts'
export type { DnsEvent } from './events.ts'

export interface ResolverOptions {
  /** Path of a resolv.conf(5). The resolver reads it again when it changes. Default: `/etc/resolv.conf`. */
  readonly resolvConf?: string
  /** `address`, `address:port` or `[IPv6]:port`, in the order of preference. Default: those of resolv.conf. */
  readonly nameservers?: readonly string[]
  /** Which records to ask for: A, AAAA, or both. Default: `both`, which costs two queries a name. */
  readonly family?: 'ipv4' | 'ipv6' | 'both'
  /** The longest that a look-up waits, milliseconds, from 1. Default: 5000. */
  readonly budgetMs?: number
  /** The longest that one query waits, milliseconds, from 1. Default: `timeout` of resolv.conf, which is 5 s by default. */
  readonly timeoutMs?: number
  /** Rounds over all nameservers, from 1. Default: `attempts` of resolv.conf, which is 2 by default. */
  readonly attempts?: number
  /** Spread queries over all nameservers. Default: `rotate` of resolv.conf. */
  readonly rotate?: boolean
  /**
   * Bounds of the time that addresses are cached, seconds, from 0. A TTL of 0 stays 0: such an answer isn't cached.
   * Default: 0 to 86,400.
   */
  readonly ttlSeconds?: { readonly min: number; readonly max: number }
  /** The longest that NXDOMAIN and NODATA are cached, seconds, from 0 (RFC 2308 §5). Default: 300. */
  readonly negativeTtlSecondsMax?: number
  /** How long expired addresses serve while no nameserver answers, seconds, from 0 (RFC 8767). Default: 3600. */
  readonly staleSeconds?: number
  /** Names in the cache, from 16. The least useful name makes room for a new one. Default: 10,000. */
  readonly cacheEntriesMax?: number
  /** Queries at the same time, from 1. A look-up that would need more fails with `overloaded`. Default: 1024. */
  readonly queriesInFlightMax?: number
  /**
   * A limit on queries for names that don't resolve yet, for services whose clients choose the names. Look-ups beyond
   * it fail with `rate_limited`; names in use are not affected. Default: 1,000,000 each, so no limit in practice.
   */
  readonly unknownNames?: { readonly queriesPerSecond: number; readonly queriesBurst: number }
  /**
   * False: answers list the address as `denied`, and never among `addresses`. It keeps clients who choose names away from
   * internal addresses. Node calls no `lookup` for an address in place of a name (`http://10.0.0.1/`): check those yourself.
   * Default: every address is allowed.
   */
  readonly admit?: (address: string) => boolean
  /** False: endpoints of SRV records with this port are denied. Default: every port is allowed. */
  readonly admitPort?: (port: number) => boolean
  /**
   * Receives each query, each change of an answer, and faults of nameservers and of resolv.conf. The kind `bug` is an
   * exception, of a callback of yours for example. An exception of `onEvent` itself is thrown as uncaught.
   * Default: such exceptions are thrown as uncaught, the rest is ignored.
   */
  readonly onEvent?: (event: DnsEvent) => void
}

export interface Resolver {
  /**
   * Looks up the addresses of a name. A name whose first label starts with an underscore is a service (RFC 2782): the
   * answer has the addresses and ports of its SRV records.
   * @param name absolute, without a search list; lower case without the final dot is fastest
   * @returns the answer itself where the cache has it, else a promise. What DNS does is an answer of the kind `nxdomain`,
   *   `nodata` or `failure`: the promise never rejects, and settles within `budgetMs`
   */
  lookup(name: string): Answer | Promise<Answer>
  /**
   * The same look-up in the shape of Node's `dns.lookup`, for the option `lookup` of `http.request`, `net.connect` and
   * others. Errors have the code `ENOTFOUND` (no such name or no addresses) or `EAI_AGAIN` (nameservers failed), and the
   * answer as `answer`. It doesn't read /etc/hosts.
   */
  readonly nodeLookup: LookupFunction
  /**
   * Keeps a name resolved: the resolver asks again before the TTL ends.
   * @param onChange runs when the addresses, or the reason why there are none, change
   * @returns null where the text is no domain name, and after `close`
   */
  keep(name: string, onChange: (answer: Answer) => void): KeptName | null
  /** Has a cached name asked again soon, at most once a second: call it when its addresses don't work. */
  refresh(name: string): void
  /**
   * Ends the TTL of one name, or of all. Old addresses still serve while nameservers fail.
   * @returns the number of names
   */
  flush(name?: string): number
  /** `address:port` of the nameservers in force, in the order of preference. */
  nameservers(): string[]
  /** Ends all queries. Look-ups in flight, and later ones, get a `failure`. */
  close(): void
}

const DEFAULTS = {
  resolvConf: '/etc/resolv.conf',
  nameservers: null,
  search: null,
  family: 'both',
  budgetMs: 5000,
  timeoutMs: null,
  attempts: null,
  rotate: null,
  ttlSeconds: { min: 0, max: 86_400 },
  negativeTtlSecondsMax: 300,
  staleSeconds: 3600,
  cacheEntriesMax: 10_000,
  queriesInFlightMax: 1024,
  unknownNames: { queriesPerSecond: 1_000_000, queriesBurst: 1_000_000 },
} as const

/**
 * Creates a resolver with a cache of its own. It doesn't keep the process alive, except while a query is in flight.
 * @throws RangeError where an option is out of range, Error where a nameserver is no IP address with a port from 1 to 65,535
 */
export function createResolver(options: ResolverOptions = {}): Resolver {
  const { admit = () => true, admitPort = () => true, onEvent = throwBug, ...settings } = options
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined))
  const completed = { ...DEFAULTS, ...given }
  checkOptions(completed)
  const { LOCALDOMAIN, RES_OPTIONS } = process.env
  const dns = createDns(completed, {
    now: () => performance.now(),
    environment: { LOCALDOMAIN, RES_OPTIONS },
    admit,
    admitPort,
    onEvent: (event) => {
      try {
        onEvent(event)
      } catch (error) {
        throwUncaught(error)
      }
    },
  })
  return {
    lookup: (name) => dns.lookup(name),
    nodeLookup: nodeLookup((name) => dns.lookup(name), admit),
    keep: (name, onChange) => dns.keep(name, onChange),
    refresh: (name) => dns.refresh(name),
    flush: (name) => dns.flush(name),
    nameservers: () => dns.nameservers(),
    close: () => dns.close(),
  }
}

const FAMILIES: readonly string[] = ['ipv4', 'ipv6', 'both']
/** The names of the options, with the least value that each takes. */
const LEAST = {
  budgetMs: 1,
  timeoutMs: 1,
  attempts: 1,
  negativeTtlSecondsMax: 0,
  staleSeconds: 0,
  cacheEntriesMax: 16,
  queriesInFlightMax: 1,
} as const

function checkOptions(options: Parameters<typeof createDns>[0]): void {
  const { family, nameservers, ttlSeconds, unknownNames } = options
  if (!FAMILIES.includes(family))
    throw new RangeError(`family must be ${FAMILIES.join(' or ')}, not ${family}`)
  if (nameservers?.length === 0) throw new RangeError('nameservers must name one at least')
  const numbers: [name: string, value: number | null, least: number][] = [
    ...Object.entries(LEAST).map(([name, least]): [string, number | null, number] => [
      name,
      options[name as keyof typeof LEAST],
      least,
    ]),
    ['ttlSeconds.min', ttlSeconds.min, 0],
    ['ttlSeconds.max', ttlSeconds.max, ttlSeconds.min],
    ['unknownNames.queriesPerSecond', unknownNames.queriesPerSecond, 1],
    ['unknownNames.queriesBurst', unknownNames.queriesBurst, 8],
  ]
  for (const [name, value, least] of numbers)
    if (value !== null && !(typeof value === 'number' && value >= least && value <= TIMER_MS_MAX))
      throw new RangeError(`${name} must be a number from ${least} to ${TIMER_MS_MAX}, not ${value}`)
}

/** A program without `onEvent` learns of its own exceptions as of any other. */
function throwBug(event: DnsEvent): void {
  if (event.kind === 'bug') throw event.error
}

/** Outside of the resolver, which goes on. */
function throwUncaught(error: unknown): void {
  queueMicrotask(() => {
    throw error
  })
}

type LookupCallback = Parameters<LookupFunction>[2]

/** Node's `dgram` passes a number as the options, and `dns.lookup` does without them. */
function nodeLookup(
  lookup: (name: string) => Answer | Promise<Answer>,
  admit: (address: string) => boolean,
): LookupFunction {
  return (hostname, given: LookupOptions | number | LookupCallback, last?: LookupCallback) => {
    const callback = typeof given === 'function' ? given : (last as LookupCallback)
    const { family = 0, all = false } = typeof given === 'object' ? given : { family: Number(given) || 0 }
    const finish = (addresses: readonly string[], answer: Answer | null): void => {
      const found = addresses
        .map((address) => ({ address, family: isIP(address) }))
        .filter((one) => family === 0 || `IPv${one.family}` === `IPv${String(family).replace('IPv', '')}`)
      const [first] = found
      if (first === undefined) callback(lookupError(hostname, answer), '', 0)
      else if (all) callback(null, found)
      else callback(null, first.address, first.family)
    }
    if (isIP(hostname) !== 0) {
      const addresses = admit(canonical(hostname)) ? [hostname] : []
      queueMicrotask(() => finish(addresses, null))
      return
    }
    // Outside of the promise: an exception of the callback is the caller's, and not a rejection.
    const finishLater = (answer: Answer): void => queueMicrotask(() => finish(addressesOf(answer), answer))
    void Promise.resolve(lookup(hostname)).then(finishLater)
  }
}

/** The text that `admit` gets for the same address from DNS. */
function canonical(address: string): string {
  return isIP(address) === 4 ? address : ipv6Text(ipOctets(address.replace(/%.*/, '')))
}

function addressesOf(answer: Answer): readonly string[] {
  if (answer.kind !== 'positive') return []
  return areEndpoints(answer.addresses) ? answer.addresses.map(({ address }) => address) : answer.addresses
}

function lookupError(hostname: string, answer: Answer | null): NodeJS.ErrnoException {
  const code = answer?.kind === 'failure' && answer.cause !== 'invalid_name' ? 'EAI_AGAIN' : 'ENOTFOUND'
  const error = new Error(`lookup ${code} ${hostname}`)
  return Object.assign(error, { code, hostname, syscall: 'lookup', answer })
}
