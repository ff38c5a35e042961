/** DNS for the rest of the program: a caching stub resolver that goes on when nameservers don't. */
import { randomInt } from 'node:crypto'
import { isIP } from 'node:net'
import { AddressResolver } from './address-resolver.ts'
import type { Answer, Try } from './answer.ts'
import { CachingResolver, type LookupCounts } from './caching-resolver.ts'
import { parseDomainName } from './domain-name.ts'
import type { DnsEvent } from './events.ts'
import type { NameserverAddress } from './exchange.ts'
import { type KeptName, KeptNames } from './kept-names.ts'
import { type Nameserver, NameserverSet } from './nameservers.ts'
import type { ResolverEnvironment } from './resolv-conf.ts'
import { ResolvConfFile } from './resolv-conf-file.ts'
import { type ResolverSettings, StubResolver } from './stub-resolver.ts'
import { nodeTimers, type Timers } from './timers.ts'
import { createTransport } from './transport.ts'

export type { DnsEvent } from './events.ts'
export type { KeptName } from './kept-names.ts'

const DNS_PORT = 53

/** Completed once, where the configuration is read. */
export interface DnsOptions {
  /** Path. */
  readonly resolvConf: string
  /** `127.0.0.1:5353`, `[::1]:53`. Null: what resolv.conf says. */
  readonly nameservers: readonly string[] | null
  /** Null: the first search domain of resolv.conf. */
  readonly search: string | null
  /** The longest a request waits. */
  readonly budgetMs: number
  /** The bounds of a positive answer's lifetime; TTL 0 stays 0. */
  readonly ttlSeconds: { readonly min: number; readonly max: number }
  /** One try at one nameserver. Null, here and in the next two: resolv.conf's options. */
  readonly timeoutMs: number | null
  /** Rounds over all nameservers. */
  readonly attempts: number | null
  readonly rotate: boolean | null
  readonly family: 'ipv4' | 'ipv6' | 'both'
  /** How long past its lifetime an answer serves while nameservers fail. */
  readonly staleSeconds: number
  readonly negativeTtlSecondsMax: number
  readonly cacheEntriesMax: number
  readonly queriesInFlightMax: number
  /** Queries for names that aren't in use: so many a second, and so many at once. */
  readonly unknownNames: { readonly queriesPerSecond: number; readonly queriesBurst: number }
}

export interface DnsSeams {
  /** Monotonic, milliseconds. */
  readonly now: () => number
  readonly environment: ResolverEnvironment
  /** False: the address is never connected to. */
  readonly admit: (address: string) => boolean
  readonly onEvent: (event: DnsEvent) => void
  /** Node's timers, unless told otherwise. */
  readonly timers?: Timers
  /** From 0 to 1, exclusive: for jitter and shuffling. */
  readonly random?: () => number
  /** Where the nameservers of resolv.conf listen: 53, except in tests. */
  readonly nameserverPort?: number
}

export interface Dns {
  /** The search domain in force; null where there is none. */
  searchDomain(): string | null
  /** The nameservers in force, in their order, `address:port`. */
  nameservers(): string[]
  /**
   * At once where the cache knows; else a promise that settles within the budget and never rejects for what DNS does.
   * `name` is absolute; a name in lower case without the final dot is found fastest.
   */
  lookup(name: string): Answer | Promise<Answer>
  /** Keeps a name resolved, ahead of its TTL. Null where it is no domain name. */
  keep(name: string, onChange: (answer: Answer) => void): KeptName | null
  /** Has a cached name asked for again soon: something says its addresses may be wrong. */
  refresh(name: string): void
  /** Ends the lifetime of one name, or of all. While nameservers fail the old answers still serve. */
  flush(name?: string): void
  /** Asks the nameservers, past the cache, and tells every try. */
  explain(name: string): Promise<Explanation>
  status(): DnsStatus
  /** Each cached name, in no order. */
  names(): Iterable<NameStatus>
  close(): void
}

export interface Explanation {
  readonly answer: Answer
  readonly tries: readonly Try[]
  /** What a request would have got from the cache; null: nothing. */
  readonly cached: Answer | null
}

export interface DnsStatus {
  readonly nameservers: readonly NameserverStatus[]
  readonly search: string | null
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
  /** Queries by RCODE, or by why there was none. */
  readonly outcomes: Readonly<Record<string, number>>
}

export interface NameStatus {
  readonly name: string
  /** Stale where nothing better is known; null: nothing. */
  readonly answer: Answer | null
  /** Till the lifetime ends, negative past it; null where there is no answer. */
  readonly secondsLeft: number | null
  readonly kept: boolean
}

export function createDns(options: DnsOptions, seams: DnsSeams): Dns {
  const { now, environment, admit, onEvent, random = Math.random, nameserverPort = DNS_PORT } = seams
  const timers = seams.timers ?? nodeTimers(now)
  const file = new ResolvConfFile(options.resolvConf, { timers, environment, onEvent })
  const nameservers = new NameserverSet(onEvent)
  let settings = resolverSettings(options, file)
  const stub = new StubResolver(nameservers, () => settings, {
    timers,
    transport: createTransport(timers),
    randomId: () => randomInt(0x10000),
    onEvent,
  })
  const addresses = new AddressResolver(stub, options, { timers, random, admit, onEvent })
  const resolver = new CachingResolver(
    { ...options, random, queriesPerName: addresses.types.length },
    timers,
    (name, awaited, charge) => addresses.resolve(name, awaited, charge),
    (error) => onEvent({ kind: 'bug', error }),
  )
  const kept = new KeptNames(resolver, timers)
  const searchDomain = (): string | null =>
    (options.search === null ? file.current.search[0] : parseDomainName(options.search)) ?? null

  const load = (): void => {
    settings = resolverSettings(options, file)
    nameservers.replace(nameserverAddresses(options, file, nameserverPort))
    onEvent({
      kind: 'resolv_conf_loaded',
      path: options.resolvConf,
      nameservers: nameservers.all.map(({ address }) => address.text),
      search: searchDomain(),
    })
  }
  load()
  file.watch(() => {
    load()
    resolver.endBackoffs()
    kept.refreshAll()
  })

  return {
    searchDomain,
    nameservers: () => nameservers.all.map(({ address }) => address.text),
    lookup: (name) => resolver.lookup(name),
    keep: (name, onChange) => kept.keep(name, onChange),
    refresh: (name) => resolver.refresh(name),
    flush: (name) => {
      resolver.flush(name)
      kept.refreshAll()
    },
    explain: (name) => explain(name, resolver, addresses),
    status: () => ({
      nameservers: nameservers.all.map(nameserverStatus),
      search: searchDomain(),
      lookups: { ...resolver.counts },
      names: resolver.size,
      namesKept: kept.size,
      queriesInFlight: resolver.queriesInFlight,
      refreshesWaiting: resolver.refreshesWaiting,
    }),
    names: () => nameStatuses(resolver, kept, now),
    close: () => {
      file.close()
      kept.close()
      resolver.close()
      addresses.close()
      stub.close()
    },
  }
}

async function explain(
  text: string,
  resolver: CachingResolver,
  addresses: AddressResolver,
): Promise<Explanation> {
  const name = parseDomainName(text)
  if (name === null || name === '') {
    const answer: Answer = { kind: 'failure', name: text, cause: 'invalid_name', tries: [] }
    return { answer, tries: [], cached: null }
  }
  const cached = resolver.peek(name)
  return { ...(await addresses.resolve(name, false, null)), cached }
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
    edns,
    smoothedRttMs,
    outcomes: Object.fromEntries(outcomes),
  }
}

function* nameStatuses(resolver: CachingResolver, kept: KeptNames, now: () => number): Generator<NameStatus> {
  const nowMs = now()
  for (const cached of resolver.names()) {
    const { name, expiresAtMs } = cached
    yield {
      name,
      answer: cached.answerAt(nowMs) ?? cached.staleAt(nowMs),
      secondsLeft: expiresAtMs === null ? null : (expiresAtMs - nowMs) / 1000,
      kept: kept.has(name),
    }
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

/** Checked where the configuration is read: what isn't an address here is a bug. */
function parseNameserver(text: string): NameserverAddress {
  if (isIP(text) !== 0) return nameserverAddress(text, DNS_PORT)
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? []
  const host = bracketed ?? plain ?? ''
  if (isIP(host) === 0) throw new Error(`expected address:port of a nameserver, not "${text}"`)
  return nameserverAddress(host, Number(port))
}

function nameserverAddress(host: string, port: number): NameserverAddress {
  return { host, port, text: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}` }
}
