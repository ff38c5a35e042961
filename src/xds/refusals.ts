import type { Resource } from './resource.ts'

/**
 * How long a refused version is not sent again: after its first refusal, and at most. The wait doubles, so that what is
 * put right soon is tried soon, and what stays wrong costs little.
 */
export const REFUSED_MS = { first: 1_000, max: 60_000 } as const
/** So many refusals in a row belong to the search for one resource among as many as a response has. */
const REFUSALS_IN_A_ROW = 16
/** After more of them (all resources are at fault, say) the search goes on more slowly: each wait is twice as long. */
const SEARCH_WAIT_MS = { first: 100, max: 10_000 } as const

interface Refusal {
  readonly version: string
  /** How often this version was refused by itself. */
  readonly times: number
  /** Infinity once it is to be tried again. */
  readonly untilMs: number
}

/** A resource that a client refuses though nothing else came with it. */
export interface AtFault<R extends Resource> {
  readonly resource: R
  /** True where the client has refused this version before. */
  readonly again: boolean
}

/**
 * What a client has refused. A NACK names no resource, so a refused response is searched for what is at fault: its two
 * halves are sent again, each by itself. The search goes by level, so that the halves without a fault come first. What is
 * refused alone is at fault, and rests for a while.
 */
export class Refusals<R extends Resource> {
  readonly #atFault = new Map<string, Refusal>()
  /** Names to be sent again, each group in one response, the first of them next. */
  readonly #groups: Set<string>[] = []
  readonly #groupOf = new Map<string, Set<string>>()
  /** What has rested long enough, or has another version: the group that others join. */
  #again: Set<string> | undefined
  #inARow = 0
  #searchAtMs = Number.NEGATIVE_INFINITY
  /** No later than the end of the first rest. */
  #restsUntilMs = Number.POSITIVE_INFINITY

  /** How many resources are at fault. */
  get size(): number {
    return this.#atFault.size
  }

  /** All that is suspected or at fault. */
  names(): Set<string> {
    return new Set([...this.#groupOf.keys(), ...this.#atFault.keys()])
  }

  /** True where this very version rests. */
  rests({ name, version }: Resource): boolean {
    const refusal = this.#atFault.get(name)
    return refusal?.version === version && refusal.untilMs !== Number.POSITIVE_INFINITY
  }

  /** True for what was refused by itself, and not accepted since. */
  isAtFault(name: string): boolean {
    return this.#atFault.has(name)
  }

  /** True where a name must not be sent with others. */
  isSuspect(name: string): boolean {
    return this.#groupOf.has(name) || this.#atFault.has(name)
  }

  /** Takes a refused response. @returns the resource at fault, once it is found */
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

  /** Takes a removal that was refused with nothing beside it. */
  refuseRemoval(name: string, nowMs: number): void {
    const before = this.#atFault.get(name)
    this.#rest(name, REMOVED, before?.version === REMOVED ? before.times + 1 : 1, nowMs)
  }

  /** A response of suspects was answered. */
  searched(accepted: boolean, nowMs: number): void {
    this.#inARow = accepted ? 0 : this.#inARow + 1
    const beyond = this.#inARow - REFUSALS_IN_A_ROW
    const waitMs = beyond <= 0 ? 0 : Math.min(SEARCH_WAIT_MS.first * 2 ** (beyond - 1), SEARCH_WAIT_MS.max)
    this.#searchAtMs = nowMs + waitMs
  }

  /** Has a name sent again, by itself or with other suspects. */
  suspect(name: string): void {
    if (this.#groupOf.has(name)) return
    if (this.#again === undefined) {
      this.#again = new Set()
      this.#groups.push(this.#again)
    }
    this.#again.add(name)
    this.#groupOf.set(name, this.#again)
  }

  /** The client has accepted it, has no use for it any more, or asks for it anew. */
  forget(name: string): void {
    this.#atFault.delete(name)
    this.#groupOf.get(name)?.delete(name)
    this.#groupOf.delete(name)
  }

  /** What was refused may be acceptable now. */
  forgetAll(): void {
    this.#atFault.clear()
    this.#groups.length = 0
    this.#groupOf.clear()
    this.#again = undefined
    this.#inARow = 0
    this.#searchAtMs = Number.NEGATIVE_INFINITY
    this.#restsUntilMs = Number.POSITIVE_INFINITY
  }

  /** The names to send now, with nothing else beside them. */
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

/** In place of a version: a removal. */
const REMOVED = ''
