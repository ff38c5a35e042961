import type { Zone } from '../routing/rules.ts'
import type { ZoneRef } from '../zones/learned-zones.ts'
import { SLOT_SECONDS, type ZoneActivity, type ZoneSums } from './zone-activity.ts'

/** The worst zones are chosen every 15 s, as often as Prometheus scrapes. */
const CHOOSE_EVERY_SLOTS = 15 / SLOT_SECONDS
/** Errors or refusals in five minutes that put a zone on the list: a single one is no outage. */
const ENTERS_WITH = 5
/** A listed zone gives way only to one that is this many times as bad, so that two similar zones do not alternate. */
const STAYS_UP_TO = 2
/** Refusals are counted by the minute, over the same five minutes as errors. */
const MINUTES = 5
const SLOTS_PER_MINUTE = 60 / SLOT_SECONDS
/** Zones with a counter in each minute. Bounded, because callers choose the ids. */
const REFUSED_MAX = 500

/** For each of these shares, zones with more failed tries than that are counted. */
export const ERROR_SHARES = [0, 0.05, 0.5] as const

/** One of the zones that lost the most requests, within five minutes. */
export interface WorstZone extends ZoneSums {
  /** Requests that the processor refused because of DNS. */
  readonly refusals: number
}

interface Counted {
  readonly zone: ZoneRef & { readonly name: string }
  count: number
}

/**
 * The zones that lost the most requests, at most `most`; metrics name no others. Half of the places are for errors and half
 * for refusals, because any caller can cause refusals of as many ids as it likes.
 */
export class WorstZones {
  readonly #activity: ZoneActivity
  readonly #most: () => number
  #byErrors: readonly ZoneRef[] = []
  #byRefusals: readonly ZoneRef[] = []
  #failing: readonly number[] = ERROR_SHARES.map(() => 0)
  /** By minute, the open one first. */
  #refused: readonly FrequentZones[] = [new FrequentZones()]
  #slot = 0

  /** @param most how many zones are listed, from 0 up; it may change */
  constructor(activity: ZoneActivity, most: () => number) {
    this.#activity = activity
    this.#most = most
  }

  /** Counts a refused request of the zone. */
  refused(zone: Zone): void {
    this.#refused[0]?.count(zone)
  }

  /** Call it every SLOT_SECONDS, after `nextSlot` of the activity. */
  nextSlot(): void {
    this.#slot += 1
    if (this.#slot % SLOTS_PER_MINUTE === 0)
      this.#refused = [new FrequentZones(), ...this.#refused].slice(0, MINUTES)
    if (this.#slot % CHOOSE_EVERY_SLOTS === 0) this.#choose()
  }

  /** Each zone once. */
  list(): WorstZone[] {
    const most = this.#most()
    const listed = [...this.#byErrors.slice(0, placesOf(most).errors), ...this.#byRefusals].slice(0, most)
    const refusals = this.#refusals()
    const zones = new Map(listed.map((zone) => [keyOf(zone), zone]))
    return [...zones].flatMap(([key, zone]) => {
      const refused = refusals.get(key)
      const sums = this.#activity.sumsOf(zone) ?? (refused && { ...refused.zone, requests: 0, errors: 0 })
      return sums ? [{ ...sums, refusals: refused?.count ?? 0 }] : []
    })
  }

  /** For each of ERROR_SHARES, how many zones had a larger share of failed requests. */
  get failing(): readonly number[] {
    return this.#failing
  }

  #choose(): void {
    const most = this.#most()
    const { errors, refusals } = placesOf(most)
    const failing = ERROR_SHARES.map(() => 0)
    const candidates: Scored[] = []
    for (const zone of most === 0 ? [] : this.#activity.failing()) {
      for (const [at, share] of ERROR_SHARES.entries())
        if (zone.errors > share * zone.requests) failing[at] = (failing[at] ?? 0) + 1
      candidates.push({ zone, score: zone.errors })
    }
    this.#failing = failing
    this.#byErrors = worst(candidates, this.#byErrors, errors)
    const refused = [...this.#refusals().values()].map(({ zone, count }) => ({ zone, score: count }))
    this.#byRefusals = worst(refused, this.#byRefusals, refusals)
  }

  #refusals(): Map<string, Counted> {
    const sums = new Map<string, Counted>()
    for (const minute of this.#refused)
      for (const [key, { zone, count }] of minute.zones) {
        const sum = sums.get(key)
        if (sum === undefined) sums.set(key, { zone, count })
        else sum.count += count
      }
    return sums
  }
}

/**
 * The most frequent zones, in bounded memory (Misra and Gries, "Finding repeated elements", 1982). Of n refusals it keeps
 * each zone that has more than n / (REFUSED_MAX + 1), and a count is too low by that much at most.
 */
class FrequentZones {
  readonly zones = new Map<string, Counted>()

  count(zone: Zone): void {
    const key = `${zone.service.name}/${zone.id}`
    const known = this.zones.get(key)
    if (known !== undefined) known.count += 1
    else if (this.zones.size < REFUSED_MAX)
      this.zones.set(key, { zone: { service: zone.service.name, id: zone.id, name: zone.name }, count: 1 })
    else
      for (const [other, counted] of this.zones) {
        counted.count -= 1
        if (counted.count === 0) this.zones.delete(other)
      }
  }
}

interface Scored {
  readonly zone: ZoneRef
  readonly score: number
}

/** The worst candidates; a zone that was listed before counts STAYS_UP_TO times. */
function worst(candidates: readonly Scored[], before: readonly ZoneRef[], most: number): ZoneRef[] {
  const listed = new Set(before.map(keyOf))
  return candidates
    .map(({ zone, score }) => {
      const isListed = listed.has(keyOf(zone))
      return { zone, enters: isListed || score >= ENTERS_WITH, score: isListed ? score * STAYS_UP_TO : score }
    })
    .filter(({ enters }) => enters)
    .sort((a, b) => b.score - a.score)
    .slice(0, most)
    .map(({ zone: { service, id } }) => ({ service, id }))
}

function placesOf(most: number): { readonly errors: number; readonly refusals: number } {
  const errors = Math.ceil(most / 2)
  return { errors, refusals: most - errors }
}

function keyOf({ service, id }: ZoneRef): string {
  return `${service}/${id}`
}
