import type { Zone } from '../routing/rules.ts'
import type { ZoneChange, ZoneRef } from '../zones/learned-zones.ts'

/** Points of a zone's history, one for each slot: five minutes. */
export const HISTORY_POINTS = 60
/** Length of a slot: Envoys report loads this often. */
export const SLOT_SECONDS = 5
/** The open slot, the closed ones, and one more because a point is the mean of two slots. */
const SLOTS = HISTORY_POINTS + 2
/** An Envoy reports all of its zones every period, even unused ones; two periods without a report mean that it lost the zone. */
const REPORTED_SLOTS = 2
const ENVOYS_PER_ZONE_MAX = 16

export interface ZoneLoad {
  readonly requests: number
  readonly errors: number
}

/** How much a zone was used lately. */
export interface ZoneUse extends ZoneRef {
  readonly name: string
  /** Pushed to the Envoys. */
  readonly learned: boolean
  /** Envoys whose recent load reports have it. */
  readonly envoys: readonly string[]
  readonly requestsPerSecond: number
  /** Requests per second, oldest first, a point for each slot; absent unless asked for. */
  readonly history?: readonly number[]
  /** Within the time of the history. */
  readonly errors: number
}

/** A zone's requests and errors of the last five minutes. */
export interface ZoneSums extends ZoneRef {
  readonly name: string
  readonly requests: number
  readonly errors: number
}

interface Entry {
  readonly zone: ZoneRef
  name: string
  usedAtMs: number
  /** The slot of its first use. Counts begin there, so a zone that a scan used once keeps a single number. */
  readonly since: number
  /** The last slot for which the counts below are right, see `#upToDate`. */
  slot: number
  /** By slot, see `place`. Sparse, and only as long as needed. */
  readonly requests: number[]
  readonly errors: number[]
  /** Sums of `requests` and `errors`, kept so that reading all zones is cheap. */
  requestsSum: number
  errorsSum: number
  /** Envoy → the slot of its last report. */
  readonly envoys: Map<string, number>
}

export interface ZoneActivityOptions {
  /** The most cold zones to remember; the least recently used goes first. */
  readonly coldMax: number
  /** A cold zone without requests for this long is forgotten. */
  readonly idleMs: number
}

/**
 * The zones in use, with their request counts: cold requests as they are decided, hot ones as Envoys report them. A zone
 * stays from its first forwarded request until it is idle, or until DNS no longer has the name to which it was forwarded. It stays
 * when a new configuration gives it another name or refuses its requests, so that an operator sees what the change did.
 */
export class ZoneActivity {
  readonly #now: () => number
  readonly #learned = new Map<string, Entry>()
  /** The least recently used first. */
  readonly #cold = new Map<string, Entry>()
  #options: ZoneActivityOptions
  #slot = 0

  /** @param now monotonic, milliseconds */
  constructor(options: ZoneActivityOptions, now: () => number) {
    this.#options = options
    this.#now = now
  }

  set options(options: ZoneActivityOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#learned.size + this.#cold.size
  }

  get learnedCount(): number {
    return this.#learned.size
  }

  /** Counts a request that the processor forwarded, or refused with maintenance. */
  used({ service, id, name }: Zone): void {
    const key = `${service.name}/${id}`
    const learned = this.#learned.get(key)
    const entry = learned ?? this.#cold.get(key) ?? this.#newEntry({ service: service.name, id })
    entry.usedAtMs = this.#now()
    this.#countRequests(this.#upToDate(entry), 1)
    if (learned !== undefined) return
    entry.name = name
    this.#cold.delete(key)
    this.#cold.set(key, entry)
    this.#bound()
  }

  /** Forgets a cold zone, as its name is not in DNS. A zone that was forwarded to another name stays. */
  notFound({ service, id, name }: Zone): void {
    const key = `${service.name}/${id}`
    if (this.#cold.get(key)?.name === name) this.#cold.delete(key)
  }

  /** Follows a zone that was learned or forgotten. */
  changed(zone: ZoneRef, change: ZoneChange, name: string): void {
    const key = keyOf(zone)
    if (change === 'learned' || change === 'adopted') {
      const entry = this.#learned.get(key) ?? this.#cold.get(key) ?? this.#newEntry(zone)
      entry.name = name
      this.#cold.delete(key)
      this.#learned.set(key, entry)
      return
    }
    const entry = this.#learned.get(key)
    this.#learned.delete(key)
    if (entry === undefined || change === 'nxdomain') return
    this.#cold.set(key, entry)
    this.#bound()
  }

  /** Counts an Envoy's load report of a zone. */
  reported(envoy: string, zone: ZoneRef, load: ZoneLoad): void {
    const key = keyOf(zone)
    const entry = this.#learned.get(key) ?? this.#cold.get(key)
    if (entry === undefined) return
    this.#upToDate(entry)
    if (entry.envoys.size < ENVOYS_PER_ZONE_MAX || entry.envoys.has(envoy))
      entry.envoys.set(envoy, this.#slot)
    if (load.requests > 0) entry.usedAtMs = this.#now()
    this.#countRequests(entry, load.requests)
    if (load.errors > 0) {
      count(entry, entry.errors, this.#slot, load.errors)
      entry.errorsSum += load.errors
    }
  }

  /** Begins the next slot. Call it every SLOT_SECONDS. */
  nextSlot(): void {
    this.#slot += 1
    const nowMs = this.#now()
    for (const [key, entry] of this.#cold)
      if (nowMs - entry.usedAtMs >= this.#options.idleMs) this.#cold.delete(key)
  }

  /** Number of the open slot; it goes up by one every SLOT_SECONDS. */
  get slot(): number {
    return this.#slot
  }

  /** Null for a zone that nobody uses. */
  find(zone: ZoneRef): ZoneUse | null {
    const key = keyOf(zone)
    const learned = this.#learned.get(key)
    const entry = learned ?? this.#cold.get(key)
    return entry === undefined ? null : this.#use(entry, learned !== undefined, false)
  }

  /** Zones with errors. */
  *failing(): Generator<ZoneSums> {
    for (const entries of [this.#learned, this.#cold])
      for (const entry of entries.values()) if (this.#upToDate(entry).errorsSum > 0) yield sumsOf(entry)
  }

  /** Null for a zone that nobody uses. */
  sumsOf(zone: ZoneRef): ZoneSums | null {
    const key = keyOf(zone)
    const entry = this.#learned.get(key) ?? this.#cold.get(key)
    return entry === undefined ? null : sumsOf(this.#upToDate(entry))
  }

  /** The zones in use when the iteration begins. Each is read when it is taken. */
  *list(history: boolean): Generator<ZoneUse> {
    for (const key of [...this.#learned.keys(), ...this.#cold.keys()]) {
      const learned = this.#learned.get(key)
      const entry = learned ?? this.#cold.get(key)
      if (entry !== undefined) yield this.#use(entry, learned !== undefined, history)
    }
  }

  /**
   * Drops the counts of slots that are too old by now. Entries are brought up to date when they are used, because at each slot all of
   * them at once would block the event loop.
   */
  #upToDate(entry: Entry): Entry {
    for (let slot = Math.max(entry.slot, this.#slot - SLOTS) + 1; slot <= this.#slot; slot++) {
      const at = place(entry, slot)
      entry.requestsSum -= clear(entry.requests, at)
      entry.errorsSum -= clear(entry.errors, at)
    }
    entry.slot = this.#slot
    for (const [envoy, slot] of entry.envoys)
      if (this.#slot - slot > REPORTED_SLOTS) entry.envoys.delete(envoy)
    return entry
  }

  #use(entry: Entry, learned: boolean, history: boolean): ZoneUse {
    this.#upToDate(entry)
    return {
      ...entry.zone,
      name: entry.name,
      learned,
      envoys: [...entry.envoys.keys()],
      requestsPerSecond: this.#rate(entry, this.#slot - 1),
      errors: entry.errorsSum,
      ...(history && { history: this.#history(entry) }),
    }
  }

  #history(entry: Entry): number[] {
    const first = this.#slot - HISTORY_POINTS
    return Array.from({ length: HISTORY_POINTS }, (_, point) => this.#rate(entry, first + point))
  }

  /** The mean of two slots: the Envoys' reports do not keep step with slots, so one would jitter. */
  #rate(entry: Entry, slot: number): number {
    const { requests } = entry
    const both = (requests[place(entry, slot)] ?? 0) + (requests[place(entry, slot - 1)] ?? 0)
    return Math.round((both / (2 * SLOT_SECONDS)) * 10) / 10
  }

  #countRequests(entry: Entry, requests: number): void {
    if (requests <= 0) return
    count(entry, entry.requests, this.#slot, requests)
    entry.requestsSum += requests
  }

  #newEntry({ service, id }: ZoneRef): Entry {
    return {
      zone: { service, id },
      name: '',
      usedAtMs: this.#now(),
      since: this.#slot,
      slot: this.#slot,
      requests: [],
      errors: [],
      requestsSum: 0,
      errorsSum: 0,
      envoys: new Map(),
    }
  }

  #bound(): void {
    const [oldest] = this.#cold.keys()
    if (this.#cold.size > this.#options.coldMax && oldest !== undefined) this.#cold.delete(oldest)
  }
}

function count(entry: Entry, counts: number[], slot: number, more: number): void {
  const at = place(entry, slot)
  counts[at] = (counts[at] ?? 0) + more
}

/** Index of a slot's count: the newest overwrites the oldest. */
function place({ since }: Entry, slot: number): number {
  return (slot - since + SLOTS) % SLOTS
}

/** @returns the count that was there */
function clear(counts: number[], at: number): number {
  const old = counts[at] ?? 0
  if (at < counts.length) counts[at] = 0
  return old
}

function sumsOf({ zone, name, requestsSum, errorsSum }: Entry): ZoneSums {
  return { ...zone, name, requests: requestsSum, errors: errorsSum }
}

function keyOf({ service, id }: ZoneRef): string {
  return `${service}/${id}`
}
