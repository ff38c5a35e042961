/** DNS for the rest of the program: a caching stub resolver that survives failing nameservers. Other services use `index.ts`. */
import { randomInt } from 'node:crypto'
import { isIP } from 'node:net'
import { nodeTimers, type Timers } from '../timers.ts'
import { AddressResolver } from './address-resolver.ts'
import type { Answer, KeptName, Try } from './answer.ts'
import type { CachedName } from './cached-name.ts'
import { CachingResolver, type LookupCounts } from './caching-resolver.ts'
import { type DomainName, parseDomainName } from './domain-name.ts'
import type { DnsEvent } from './events.ts'
import { KeptNames } from './kept-names.ts'
import { type Nameserver, NameserverSet } from './nameservers.ts'
import type { ResolverEnvironment } from './resolv-conf.ts'
import { ResolvConfFile } from './resolv-conf-file.ts'
import { SearchDomain } from './search-domain.ts'
import { isService, ServiceResolver } from './service-resolver.ts'
import { type ResolverSettings, StubResolver } from './stub-resolver.ts'
import { TcpConnections } from './tcp.ts'
import type { NameserverAddress } from './transport.ts'
import { createTransport } from './transport.ts'

export type { DnsEvent } from './events.ts'

const DNS_PORT = 53
const randomId = (): number => randomInt(0x10000)

/** All of them are set: the reader of the configuration adds the defaults. */
export interface DnsOptions {
  /** A path. */
  readonly resolvConf: string
  /** `127.0.0.1:5353`, `[::1]:53`. Null: those of resolv.conf. */
  readonly nameservers: readonly string[] | null
  /** Null: the first search domain of resolv.conf. */
  readonly search: string | null
  /** The longest that a look-up waits. */
  readonly budgetMs: number
  /** Bounds of the lifetime of a positive answer. TTL 0 stays 0. */
  readonly ttlSeconds: { readonly min: number; readonly max: number }
  /** For one query. Null, here and in the next two: the options of resolv.conf. */
  readonly timeoutMs: number | null
  /** Rounds over all nameservers. */
  readonly attempts: number | null
  readonly rotate: boolean | null
  readonly family: 'ipv4' | 'ipv6' | 'both'
  /** How long an answer serves past its lifetime, while nameservers fail. */
  readonly staleSeconds: number
  readonly negativeTtlSecondsMax: number
  readonly cacheEntriesMax: number
  readonly queriesInFlightMax: number
  /** The limit on queries for names that aren't in use. */
  readonly unknownNames: { readonly queriesPerSecond: number; readonly queriesBurst: number }
}

export interface DnsSeams {
  /** Monotonic, milliseconds. */
  readonly now: () => number
  readonly environment: ResolverEnvironment
  /** False: the address is never connected to. */
  readonly admit: (address: string) => boolean
  /** False: endpoints of SRV records with this port are denied. */
  readonly admitPort: (port: number) => boolean
  readonly onEvent: (event: DnsEvent) => void
  /** Called when a query is sent; the query's event has the result. */
  readonly askedFor?: () => unknown
  /** Node's by default. */
  readonly timers?: Timers
  /** From 0 to 1, exclusive: for jitter and shuffling. `Math.random` by default. */
  readonly random?: () => number
  /** Why no zone can have a name under a search domain; null where zones can. By default every domain is good. */
  readonly searchFault?: (domain: string) => string | null
  /** The search domain of the `Dns` that this one replaces: it stays in force. */
  readonly searchBefore?: string | null
  /** The port of the nameservers of resolv.conf: 53, except in tests. */
  readonly nameserverPort?: number
}

export interface Dns {
  /** The search domain in force; null where there is none. A changed resolv.conf replaces it only while no name uses it. */
  searchDomain(): string | null
  /** Makes the first search domain of resolv.conf the one in force. */
  takeSearchDomain(): void
  /** The nameservers in force, in their order, `address:port`. */
  nameservers(): string[]
  /**
   * Looks up a name. One that begins with an underscore is a service: its answer has the endpoints of its SRV records.
   * @param name absolute; lower case without the final dot is fastest
   * @returns the answer itself where the cache has it, else a promise. It settles within the budget, and never rejects
   */
  lookup(name: string): Answer | Promise<Answer>
  /**
   * Keeps a name resolved, ahead of its TTL.
   * @param inUse false: no request has asked for it yet, so until it resolves, `unknownNames` limits its queries
   * @returns null where the text is no domain name, and after `close`
   */
  keep(name: string, onChange: (answer: Answer) => void, inUse?: boolean): KeptName | null
  /** Asks for a cached name again soon, because its addresses may be wrong. */
  refresh(name: string): void
  /**
   * Ends the lifetime of one name, or of all. Old answers still serve while nameservers fail.
   * @returns the number of names, including the targets of a service
   */
  flush(name?: string): number
  /** Asks the nameservers without the cache, and lists every try. */
  explain(name: string): Promise<Explanation>
  status(): DnsStatus
  /** What is cached of a name, as `lookup` takes it; undefined: nothing. */
  cached(name: string): NameStatus | undefined
  /** Ends all queries. Look-ups that wait, and later ones, fail. */
  close(): void
}

export interface Explanation {
  readonly answer: Answer
  readonly tries: readonly Try[]
  /** The cache's answer to a request; null where it has none. */
  readonly cached: Answer | null
}

export interface DnsStatus {
  readonly nameservers: readonly NameserverStatus[]
  readonly search: string | null
  /** The first search domain of resolv.conf, where another one is in force. `takeSearchDomain` takes it. */
  readonly searchOffered: string | null
  readonly lookups: Readonly<LookupCounts>
  readonly names: number
  readonly namesKept: number
  readonly queriesInFlight: number
  readonly refreshesWaiting: number
}

export interface NameserverStatus {
  readonly nameserver: string
  /** Failures in a row; 0: healthy. */
  readonly failures: number
  readonly edns: boolean
  readonly smoothedRttMs: number | null
  /** Queries by RCODE, or by the reason why there was none. */
  readonly outcomes: Readonly<Record<string, number>>
}

export interface NameStatus {
  readonly name: string
  /** Stale where there is no newer answer; null where there is none. With TTL 0, the last addresses. */
  readonly answer: Answer | null
  /** Until the lifetime ends, negative after it; null where there is no answer, or one with TTL 0. */
  readonly secondsLeft: number | null
  /** True where the answer is past its lifetime because no request asked again, not because nameservers fail. */
  readonly expired: boolean
  readonly kept: boolean
}

export function createDns(options: DnsOptions, seams: DnsSeams): Dns {
  const { now, environment, onEvent, nameserverPort = DNS_PORT } = seams
  const onBug = (error: unknown): void => onEvent({ kind: 'bug', error })
  const timers = seams.timers ?? nodeTimers(now, onBug)
  const file = new ResolvConfFile(options.resolvConf, { timers, environment, onEvent })
  const nameservers = new NameserverSet(onEvent)
  let settings = resolverSettings(options, file)
  const transport = createTransport(timers, new TcpConnections(onBug), onBug)
  const seamsOfTries = { ...seams, timers, transport, randomId, onBug }
  const stub = new StubResolver(nameservers, () => settings, seamsOfTries)
  const resolvers = resolversOver(stub, options, { ...seams, timers, onBug })
  const { resolver } = resolvers
  resolver.onChanged = (answer, before, tries) => {
    const nameserver = tries.findLast(
      ({ outcome }) => outcome === 'NOERROR' || outcome === 'NXDOMAIN',
    )?.nameserver
    onEvent({ kind: 'answer_changed', name: answer.name, answer, before, nameserver })
  }
  const kept = new KeptNames(resolver, timers, onBug)
  const search = searchDomainOf(options, seams, file, (domain) => resolver.isInUse(domain))
  const inForce = (): string[] => nameservers.all.map(({ address }) => address.text)
  const tellLoaded = (): void =>
    onEvent({
      kind: 'resolv_conf_loaded',
      nameservers: inForce(),
      nameserversFrom: nameserversFrom(options, file),
      search: search.current,
      searchFrom: searchFrom(options, environment),
    })
  const load = (): void => {
    settings = resolverSettings(options, file)
    stub.replaceNameservers(nameserverAddresses(options, file, nameserverPort))
    tellLoaded()
  }
  load()
  file.watch(() => {
    const before = inForce().join()
    if (options.search === null) search.offer(file.current.search)
    load()
    // Answers of the old nameservers serve only while the new ones fail.
    if (inForce().join() === before) resolver.endBackoffs()
    else resolver.flush()
    kept.refreshAll()
  })

  return {
    searchDomain: () => search.current,
    takeSearchDomain: () => {
      if (search.take()) tellLoaded()
    },
    nameservers: inForce,
    lookup: (name) => resolver.lookup(name),
    keep: (name, onChange, inUse) => kept.keep(name, onChange, inUse),
    refresh: (name) => resolver.refresh(name),
    flush: (name) => flush(name, resolver, kept),
    explain: (name) => explain(name, resolvers),
    status: () => dnsStatus(nameservers, search, resolver, kept),
    cached: (name) => nameStatus(resolver.cached(name), kept, now()),
    close: () => {
      file.close()
      kept.close()
      resolver.close()
      resolvers.addresses.close()
      stub.close()
    },
  }
}

function flush(name: string | undefined, resolver: CachingResolver, kept: KeptNames): number {
  const names = resolver.flush(name)
  kept.refreshAll()
  return names
}

/** The resolvers of hosts and of services, and the cache in front. */
interface Resolvers {
  readonly addresses: AddressResolver
  readonly services: ServiceResolver
  readonly resolver: CachingResolver
}

function resolversOver(
  stub: StubResolver,
  options: DnsOptions,
  seams: DnsSeams & { readonly timers: Timers; readonly onBug: (error: unknown) => void },
): Resolvers {
  const { timers, onBug, random = Math.random } = seams
  const addresses = new AddressResolver(stub, options, { ...seams, random })
  const services = new ServiceResolver(addresses, options, seams)
  const resolver: CachingResolver = new CachingResolver(
    { ...options, random, queriesPerName: addresses.types.length },
    timers,
    (name, asking) =>
      isService(name)
        ? services.resolve(name, asking, (targets, within) => resolver.targets(targets, within))
        : addresses.resolve(name, asking),
    onBug,
  )
  return { addresses, services, resolver }
}

async function explain(text: string, { addresses, services, resolver }: Resolvers): Promise<Explanation> {
  const name = parseDomainName(text)
  if (name === null || name === '') {
    const answer: Answer = { kind: 'failure', name: text, cause: 'invalid_name', tries: [] }
    return { answer, tries: [], cached: null }
  }
  const cached = resolver.peek(name)
  const asking = { awaited: false, charge: null, hadAddresses: false }
  const ofTargets: Try[] = []
  const { answer, tries } = isService(name)
    ? await services.resolve(name, asking, (targets, within) =>
        Promise.all(
          targets.map(async (target) => {
            const resolution = await addresses.resolve(target, within)
            ofTargets.push(...resolution.tries)
            return resolution.answer
          }),
        ),
      )
    : await addresses.resolve(name, asking)
  return {
    answer,
    tries: [...tries, ...ofTargets],
    cached: answer.kind === 'failure' ? (cached ?? resolver.peekStale(name)) : cached,
  }
}

function dnsStatus(
  nameservers: NameserverSet,
  search: SearchDomain,
  resolver: CachingResolver,
  kept: KeptNames,
): DnsStatus {
  return {
    nameservers: nameservers.all.map(nameserverStatus),
    search: search.current,
    searchOffered: search.offered,
    lookups: { ...resolver.counts },
    names: resolver.size,
    namesKept: kept.size,
    queriesInFlight: resolver.queriesInFlight,
    refreshesWaiting: resolver.refreshesWaiting,
  }
}

function searchDomainOf(
  { search, resolvConf: path }: DnsOptions,
  { searchFault, searchBefore, onEvent }: DnsSeams,
  file: ResolvConfFile,
  isInUse: (domain: DomainName) => boolean,
): SearchDomain {
  let isStart = true
  const domain = new SearchDomain(parseDomainName(search ?? searchBefore ?? ''), {
    path,
    faultOf: searchFault ?? (() => null),
    isInUse: (current) => isStart || isInUse(current), // at the start the names in use are those of the `Dns` before
    onEvent,
  })
  if (search === null) domain.offer(file.current.search)
  isStart = false
  return domain
}

function nameserverStatus({
  address,
  failures,
  edns,
  smoothedRttMs,
  outcomes,
}: Nameserver): NameserverStatus {
  return {
    nameserver: address.text,
    failures,
    edns: !edns.isOff,
    smoothedRttMs,
    outcomes: Object.fromEntries(outcomes),
  }
}

function nameStatus(cached: CachedName | undefined, kept: KeptNames, nowMs: number): NameStatus | undefined {
  if (cached === undefined) return undefined
  const { name, expiresAtMs, uncached } = cached
  const inForce = uncached ?? cached.answerAt(nowMs)
  const answer = inForce ?? cached.staleAt(nowMs)
  return {
    name,
    answer,
    expired: inForce === null && answer !== null,
    secondsLeft: uncached !== null || expiresAtMs === null ? null : (expiresAtMs - nowMs) / 1000,
    kept: kept.has(name),
  }
}

function resolverSettings(options: DnsOptions, file: ResolvConfFile): ResolverSettings {
  const { timeoutMs, attempts, rotate, useTcp } = file.current
  return {
    timeoutMs: options.timeoutMs ?? timeoutMs,
    attempts: options.attempts ?? attempts,
    rotate: options.rotate ?? rotate,
    useTcp,
  }
}

function nameserverAddresses(options: DnsOptions, file: ResolvConfFile, port: number): NameserverAddress[] {
  if (options.nameservers !== null) return options.nameservers.map((text) => parseNameserver(text))
  const { nameservers } = file.current
  return (nameservers.length === 0 ? ['127.0.0.1'] : nameservers).map((host) => nameserverAddress(host, port))
}

function nameserversFrom({ nameservers, resolvConf }: DnsOptions, { current }: ResolvConfFile): string {
  if (nameservers !== null) return 'dns.nameservers'
  return current.nameservers.length > 0 ? resolvConf : `the default: none in ${resolvConf}`
}

function searchFrom({ search, resolvConf }: DnsOptions, { LOCALDOMAIN }: ResolverEnvironment): string {
  if (search !== null) return 'dns.search'
  return LOCALDOMAIN === undefined ? resolvConf : 'LOCALDOMAIN'
}

/** @throws Error where the text is no address: the reader of the configuration checks it before */
function parseNameserver(text: string): NameserverAddress {
  if (isIP(text) !== 0) return nameserverAddress(text, DNS_PORT)
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? []
  const host = bracketed ?? plain ?? ''
  if (isIP(host) === 0 || Number(port) < 1 || Number(port) > 65_535)
    throw new Error(`expected address:port of a nameserver, not "${text}"`)
  return nameserverAddress(host, Number(port))
}

function nameserverAddress(host: string, port: number): NameserverAddress {
  return { host, port, text: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}` }
}
