import type { AnswerText, GatewayEvent, PinText, Recorded, ZoneEvent } from './event.ts'

type Kept<Event> = Event & Pick<Recorded, 'seq' | 'at' | 'cut'>
type Started = Kept<Extract<GatewayEvent, { kind: 'started' }>>

/** The state of the gateway at a moment. */
export interface GatewayThen {
  readonly processor:
    | { readonly state: 'serving'; readonly since: number; readonly seq: number }
    /** `until` null: no processor has served since. */
    | {
        readonly state: 'away'
        readonly since: number
        readonly until: number | null
        readonly fallback: boolean
        readonly seq: number
      }
    /** The history has nothing of that time. */
    | { readonly state: 'unknown' }
  readonly config: {
    readonly file: string
    readonly values: Readonly<Record<string, unknown>>
    /** When the last change came into force, or without one when the processor began. */
    readonly since: number
    /** The last change; undefined: there was none since the processor began. */
    readonly change: Kept<Extract<GatewayEvent, { kind: 'config' }>> | undefined
    /** False: a part was too long to keep. */
    readonly isWhole: boolean
  } | null
  readonly search: string | null
  /** Nameservers that failed, and since when. */
  readonly failing: ReadonlyMap<string, { readonly since: number; readonly outcome: string }>
  readonly envoys: ReadonlySet<string>
  readonly pins: readonly PinText[]
  /** The last configuration with faults, unless a sound one came after it. */
  readonly refusedConfig: Kept<Extract<GatewayEvent, { kind: 'config_refused' }>> | undefined
}

/** Events up to a moment, in order. If the clock was set back, the moment came twice: this is up to the second time. */
export function upTo<Event extends { readonly at: number }>(events: readonly Event[], at: number): Event[] {
  const last = events.findLastIndex((event) => event.at <= at)
  return events.slice(0, last + 1)
}

/** @param events of the gateway, by `seq` */
export function gatewayAt(events: readonly Recorded[], at: number): GatewayThen {
  const before = upTo(events, at)
  const state = new GatewayState()
  for (const event of before) state.take(event)
  return { ...state.found(at), processor: processorAt(before, startAfter(events, at), at) }
}

/** The start of the next processor after a moment. */
export function startAfter(events: readonly Recorded[], at: number): Started | undefined {
  const after = events.slice(upTo(events, at).length)
  return after.find((event): event is Started => event.kind === 'started')
}

function processorAt(
  before: readonly Recorded[],
  next: Started | undefined,
  at: number,
): GatewayThen['processor'] {
  const last = before.findLast(({ kind }) => kind === 'started' || kind === 'stopped')
  if (last === undefined) return { state: 'unknown' }
  const started = before.findLast((event): event is Started => event.kind === 'started')
  const fallback = started?.fallback ?? false
  const until = next?.at ?? null
  if (last.kind === 'stopped') return { state: 'away', since: last.at, until, fallback, seq: last.seq }
  // A killed processor records no stop; the next one records how long no processor served.
  const since = next === undefined || next.awayMs === null ? null : next.at - next.awayMs
  if (since !== null && at > since) return { state: 'away', since, until, fallback, seq: last.seq }
  return { state: 'serving', since: last.at, seq: last.seq }
}

/** The state after a series of events. */
class GatewayState {
  #config: { file: string; values: Record<string, unknown>; since: number; isWhole: boolean } | null = null
  #change: Kept<Extract<GatewayEvent, { kind: 'config' }>> | undefined
  #refused: Kept<Extract<GatewayEvent, { kind: 'config_refused' }>> | undefined
  #search: string | null = null
  readonly #failing = new Map<string, { since: number; outcome: string }>()
  readonly #envoys = new Set<string>()
  readonly #pins = new Map<string, PinText>()

  take(event: Recorded): void {
    switch (event.kind) {
      case 'started':
        this.#begin(event)
        break
      case 'config':
        this.#change = event
        this.#refused = undefined
        this.#changeConfig(event)
        break
      case 'config_refused':
        this.#refused = event
        break
      case 'nameservers':
        this.#search = event.search
        break
      case 'nameserver_failing':
        this.#failing.set(event.nameserver, { since: event.at, outcome: event.outcome })
        break
      case 'nameserver_recovered':
        this.#failing.delete(event.nameserver)
        break
      case 'envoy_connected':
        this.#envoys.add(event.envoy)
        break
      case 'envoy_disconnected':
        this.#envoys.delete(event.envoy)
        break
      case 'pinned':
        this.#pins.set(event.zone.toLowerCase(), event)
        break
      case 'unpinned':
      case 'pin_over':
        this.#pins.delete(event.zone.toLowerCase())
        break
    }
  }

  found(at: number): Omit<GatewayThen, 'processor'> {
    return {
      config: this.#config && { ...this.#config, change: this.#change },
      search: this.#search,
      failing: this.#failing,
      envoys: this.#envoys,
      pins: [...this.#pins.values()].filter(({ until }) => Date.parse(until) > at),
      refusedConfig: this.#refused,
    }
  }

  #begin({ file, config, search, at, cut }: Started): void {
    this.#config = {
      file,
      values: structuredClone(config) as Record<string, unknown>,
      since: at,
      isWhole: cut !== true,
    }
    this.#change = undefined
    this.#refused = undefined
    this.#search = search
    this.#failing.clear()
    this.#envoys.clear()
  }

  #changeConfig({ file, changes, at, cut }: Kept<Extract<GatewayEvent, { kind: 'config' }>>): void {
    if (this.#config === null) return
    for (const { key, after } of changes) put(this.#config.values, key.split('.'), after)
    this.#config = { ...this.#config, file, since: at, isWhole: this.#config.isWhole && cut !== true }
  }
}

function put(values: Record<string, unknown>, [name = '', ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) {
    if (value === undefined) delete values[name]
    else Object.defineProperty(values, name, { value, enumerable: true, writable: true, configurable: true })
    return
  }
  const inner = Object.hasOwn(values, name) ? values[name] : undefined
  if (typeof inner === 'object' && inner !== null) put(inner as Record<string, unknown>, rest, value)
}

/** What the processor knew of a name at a moment. */
export interface NameThen {
  /** Null: nothing. */
  readonly answer: (AnswerText & { readonly since: number | null }) | null
  /** For a failure: the last addresses before it, and when DNS began to fail for the name. */
  readonly lastGood: { readonly addresses: readonly string[]; readonly failingSince: number } | null
  /** The last addresses that DNS had for it, even if it has none any more. Empty: none are known. */
  readonly addresses: readonly string[]
  /** The next change after the moment. */
  readonly next: Kept<Extract<ZoneEvent, { kind: 'answer' }>> | undefined
}

/**
 * @param events answers of the name, by `seq`
 * @param sinceSeq of the start of that time's processor, which did not know earlier answers
 * @param untilSeq of the start of the next processor
 */
export function nameAt(
  events: readonly Recorded[],
  at: number,
  sinceSeq: number,
  untilSeq = Number.POSITIVE_INFINITY,
): NameThen {
  const own = events.filter(
    (event): event is Kept<Extract<ZoneEvent, { kind: 'answer' }>> =>
      event.kind === 'answer' && event.seq > sinceSeq && event.seq < untilSeq,
  )
  const before = upTo(own, at)
  const last = before.at(-1)
  const next = own[before.length]
  if (last === undefined) {
    // The event of this answer is no longer in the ring, but the next change names it.
    const known = next?.before ?? null
    const addresses = known?.addresses ?? []
    return { answer: known && { ...known, since: null }, lastGood: null, addresses, next }
  }
  const addresses = before
    .flatMap((event) => [event.before?.addresses ?? [], event.addresses])
    .findLast((each) => each.length > 0)
  return {
    answer: { ...last, since: last.at },
    lastGood: lastGoodOf(before),
    addresses: addresses ?? [],
    next,
  }
}

function lastGoodOf(before: readonly Kept<Extract<ZoneEvent, { kind: 'answer' }>>[]): NameThen['lastGood'] {
  if (before.at(-1)?.result !== 'failure') return null
  const from = before.findLastIndex(({ result }) => result !== 'failure') + 1
  const first = before[from]
  const good = first?.before?.result === 'positive' ? first.before : null
  return first === undefined || good === null || good.addresses.length === 0
    ? null
    : { addresses: good.addresses, failingSince: first.at }
}
