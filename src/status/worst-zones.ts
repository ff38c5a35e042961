import type { Zone } from '../routing/rules.ts'
import type { ZoneRef } from '../zones/learned-zones.ts'
import { SLOT_SECONDS, type ZoneActivity, type ZoneSums } from './zone-activity.ts'

/** The worst zones are chosen as often. Prometheus asks as often. */
const CHOOSE_EVERY_SLOTS = 15 / SLOT_SECONDS
/** A zone with fewer errors or refusals in five minutes is not among the worst: a single one is no outage. */
const ENTERS_WITH = 5
/** A zone that is listed goes for one that is so many times as bad: else two that are alike would take turns. */
const STAYS_UP_TO = 2
/** Refusals are counted by minutes, for as long as errors are. */
const MINUTES = 5
const SLOTS_PER_MINUTE = 60 / SLOT_SECONDS
/** Zones whose refusals are counted in each minute. Anyone can name more. */
const REFUSED_MAX = 500

/** Shares of failed tries, of each of which the zones above it are counted. */
export const ERROR_SHARES = [0, 0.05, 0.5] as const

/** One of the zones that lost the most requests, within five minutes. */
export interface WorstZone extends ZoneSums {
  /** Requests that the processor refused for what DNS says of the zone's name, or does not say. */
  readonly refusals: number
}

interface Counted {
  readonly zone: ZoneRef & { readonly name: string }
  count: number
}

/**
 * The zones that lost the most requests, at most `most` of them: the only ones that metrics name. Half of the places are
 * for errors, half for refusals, because anyone who calls can cause refusals, of as many ids as he likes.
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

  /** @param most zones that are listed, 0 and more; asked each time, as it may change */
  constructor(activity: ZoneActivity, most: () => number) {
    this.#activity = activity
    this.#most = most
  }

  /** A request of the zone was refused. */
  refused(zone: Zone): void {
    this.#refused[0]?.count(zone)
  }

  /** Call it each SLOT_SECONDS, after the activity's. */
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

  /** Zones that requests went to, of which more than the share failed, by ERROR_SHARES. */
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
 * The zones that are counted most often, of any number, in bounded memory (Misra and Gries, "Finding repeated elements",
 * 1982): what is not among them was seen at most once in REFUSED_MAX + 1 times. A count is too low by as much at most.
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

/** The worst of the candidates; those that were it before stay while they come near it. */
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
