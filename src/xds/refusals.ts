import type { Resource } from './resource.ts'

/**
 * How long a refused version is not sent again: after its first refusal, and at most. The wait doubles each time, so a fault
 * that is soon fixed is tried again soon, and a lasting one costs little.
 */
export const REFUSED_MS = { first: 1_000, max: 60_000 } as const
/** A search for one bad resource in a full response needs up to this many refusals in a row. */
const REFUSALS_IN_A_ROW = 16
/** After more refusals in a row (all resources are at fault, for example) the search slows down: each wait doubles. */
const SEARCH_WAIT_MS = { first: 100, max: 10_000 } as const

interface Refusal {
  readonly version: string
  /** How often this version was refused by itself. */
  readonly times: number
  /** Infinity once the wait is over and it will be tried again. */
  readonly untilMs: number
}

/** A resource that a client refused alone. */
export interface AtFault<R extends Resource> {
  readonly resource: R
  /** True if the client has refused this version alone before. */
  readonly again: boolean
}

/**
 * What a client has refused. A NACK does not name the resource at fault, so a refused response is bisected: its two halves are
 * sent again one after the other, and so on. All halves of one size come before smaller ones, so that most resources without
 * a fault arrive early. A resource that is refused alone is at fault, and is not sent for a while.
 */
export class Refusals<R extends Resource> {
  readonly #atFault = new Map<string, Refusal>()
  /** Suspects: each group goes into one response. The first group is next. */
  readonly #groups: Set<string>[] = []
  readonly #groupOf = new Map<string, Set<string>>()
  /** The group of resources at fault whose wait is over, or that have a new version. */
  #again: Set<string> | undefined
  #inARow = 0
  #searchAtMs = Number.NEGATIVE_INFINITY
  /** The earliest time at which a wait may end. */
  #restsUntilMs = Number.POSITIVE_INFINITY

  /** How many resources are at fault. */
  get size(): number {
    return this.#atFault.size
  }

  /** All suspects, and all resources at fault. */
  names(): Set<string> {
    return new Set([...this.#groupOf.keys(), ...this.#atFault.keys()])
  }

  /** True if this version is at fault and its wait is not over. */
  rests({ name, version }: Resource): boolean {
    const refusal = this.#atFault.get(name)
    return refusal?.version === version && refusal.untilMs !== Number.POSITIVE_INFINITY
  }

  /** True if the resource was refused alone, and not accepted since. */
  isAtFault(name: string): boolean {
    return this.#atFault.has(name)
  }

  /** True if the resource must not be sent together with ordinary ones. */
  isSuspect(name: string): boolean {
    return this.#groupOf.has(name) || this.#atFault.has(name)
  }

  /** Call it with the resources of a refused response. @returns the resource at fault, once it is found */
  refuse(resources: readonly R[], nowMs: number): AtFault<R> | undefined {
    const [only, ...others] = resources
    if (only === undefined) return undefined
    if (others.length > 0) {
      const half = Math.ceil(resources.length / 2)
      this.#join(resources.slice(0, half))
      this.#join(resources.slice(half))
      return undefined
    }
    const before = this.#atFault.get(only.name)
    const times = before?.version === only.version ? before.times + 1 : 1
    this.#rest(only.name, only.version, times, nowMs)
    return { resource: only, again: times > 1 }
  }

  /** Call it when a removal was refused with nothing beside it. */
  refuseRemoval(name: string, nowMs: number): void {
    const before = this.#atFault.get(name)
    this.#rest(name, REMOVED, before?.version === REMOVED ? before.times + 1 : 1, nowMs)
  }

  /** Call it when the client has answered a response of suspects. */
  searched(accepted: boolean, nowMs: number): void {
    this.#inARow = accepted ? 0 : this.#inARow + 1
    const beyond = this.#inARow - REFUSALS_IN_A_ROW
    const waitMs = beyond <= 0 ? 0 : Math.min(SEARCH_WAIT_MS.first * 2 ** (beyond - 1), SEARCH_WAIT_MS.max)
    this.#searchAtMs = nowMs + waitMs
  }

  /** Makes a resource a suspect: it is sent again, alone or with other suspects. */
  suspect(name: string): void {
    if (this.#groupOf.has(name)) return
    if (this.#again === undefined) {
      this.#again = new Set()
      this.#groups.push(this.#again)
    }
    this.#again.add(name)
    this.#groupOf.set(name, this.#again)
  }

  /** Call it when the client has accepted a resource, no longer subscribes to it, or subscribes anew. */
  forget(name: string): void {
    this.#atFault.delete(name)
    this.#groupOf.get(name)?.delete(name)
    this.#groupOf.delete(name)
  }

  /** Call it when the client may accept what it refused before. */
  forgetAll(): void {
    this.#atFault.clear()
    this.#groups.length = 0
    this.#groupOf.clear()
    this.#again = undefined
    this.#inARow = 0
    this.#searchAtMs = Number.NEGATIVE_INFINITY
    this.#restsUntilMs = Number.POSITIVE_INFINITY
  }

  /** The suspects to send now, in a response without other resources. */
  next(max: number, nowMs: number): readonly string[] {
    if (nowMs >= this.#restsUntilMs) this.#wake(nowMs)
    if (nowMs < this.#searchAtMs) return []
    for (let group = this.#groups[0]; group !== undefined; group = this.#groups[0]) {
      const names = [...group].slice(0, max)
      for (const name of names) {
        group.delete(name)
        this.#groupOf.delete(name)
      }
      if (group.size === 0) this.#groups.shift()
      if (group === this.#again) this.#again = undefined
      if (names.length > 0) return names
    }
    return []
  }

  /** When `next` may have something. */
  wakeAtMs(): number {
    return this.#groupOf.size > 0 ? this.#searchAtMs : this.#restsUntilMs
  }

  #join(resources: readonly R[]): void {
    const group = new Set(resources.map(({ name }) => name))
    this.#groups.push(group)
    for (const name of group) this.#groupOf.set(name, group)
  }

  #rest(name: string, version: string, times: number, nowMs: number): void {
    const untilMs = nowMs + Math.min(REFUSED_MS.first * 2 ** (times - 1), REFUSED_MS.max)
    this.#atFault.set(name, { version, times, untilMs })
    this.#restsUntilMs = Math.min(this.#restsUntilMs, untilMs)
  }

  #wake(nowMs: number): void {
    this.#restsUntilMs = Number.POSITIVE_INFINITY
    for (const [name, refusal] of this.#atFault) {
      if (refusal.untilMs > nowMs) {
        this.#restsUntilMs = Math.min(this.#restsUntilMs, refusal.untilMs)
        continue
      }
      this.#atFault.set(name, { ...refusal, untilMs: Number.POSITIVE_INFINITY })
      this.suspect(name)
    }
  }
}

/** The "version" of a removal. */
const REMOVED = ''
