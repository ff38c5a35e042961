/** Names that stay resolved until every caller has released them. Callers learn when the answer changes. */

import type { Timer, Timers } from '../timers.ts'
import { type Addresses, type Answer, areEndpoints, type KeptName } from './answer.ts'
import type { CachedName } from './cached-name.ts'
import type { CachingResolver } from './caching-resolver.ts'
import { parseDomainName } from './domain-name.ts'

/** The shortest interval between refreshes, for TTL 0. */
const REFRESH_INTERVAL_MS_MIN = 1000

interface Kept {
  readonly cached: CachedName
  readonly listeners: Set<(answer: Answer) => void>
  told: Answer | null
  timer: Timer | null
}

export class KeptNames {
  readonly #resolver: CachingResolver
  readonly #timers: Timers
  readonly #onBug: (error: unknown) => void
  readonly #kept = new Map<string, Kept>()
  #closed = false

  /** @param onBug receives an exception of a callback; the other callbacks still run */
  constructor(resolver: CachingResolver, timers: Timers, onBug: (error: unknown) => void) {
    this.#resolver = resolver
    this.#timers = timers
    this.#onBug = onBug
    resolver.onLearned = (cached, answer) => this.#onLearned(cached, answer)
  }

  get size(): number {
    return this.#kept.size
  }

  has(name: string): boolean {
    return this.#kept.has(name)
  }

  /**
   * @param onChange runs when the class, the set of addresses, the staleness, or whether the TTL is 0 changes
   * @param inUse false: until it resolves, its queries count as those of an unknown name
   * @returns null where the text is no domain name, and after `close`
   */
  keep(text: string, onChange: (answer: Answer) => void, inUse = true): KeptName | null {
    const name = parseDomainName(text)
    if (name === null || name === '' || this.#closed) return null
    let kept = this.#kept.get(name)
    if (kept === undefined) {
      const cached = this.#resolver.pin(name, inUse)
      kept = { cached, listeners: new Set(), told: cached.answerAt(this.#timers.now()), timer: null }
      this.#kept.set(name, kept)
      this.#schedule(kept)
    }
    const held = kept
    const { cached, listeners } = held
    // A new function, because callers may pass the same one twice.
    const listener = (answer: Answer): void => onChange(answer)
    listeners.add(listener)
    return {
      name,
      current: () => cached.answerAt(this.#timers.now()) ?? cached.staleAt(this.#timers.now()),
      expiresAtMs: () => cached.expiresAtMs,
      release: () => {
        if (listeners.delete(listener) && listeners.size === 0) this.#release(held)
      },
    }
  }

  /** Releases all names. No callback comes afterwards. */
  close(): void {
    this.#closed = true
    for (const kept of [...this.#kept.values()]) {
      kept.listeners.clear()
      this.#release(kept)
    }
  }

  /** Schedules all names anew, after a change of the nameservers or of lifetimes. The refresh queue sets the pace. */
  refreshAll(): void {
    for (const kept of this.#kept.values()) this.#schedule(kept)
  }

  #release({ cached, timer }: Kept): void {
    timer?.cancel()
    this.#kept.delete(cached.name)
    this.#resolver.unpin(cached.name)
  }

  #onLearned(cached: CachedName, answer: Answer): void {
    const kept = this.#kept.get(cached.name)
    if (kept === undefined) return
    this.#schedule(kept)
    const current = cached.answerAt(this.#timers.now()) ?? answer
    const before = kept.told
    kept.told = current
    if (before !== null && isSame(before, current)) return
    for (const listener of kept.listeners) {
      try {
        listener(current)
      } catch (error) {
        this.#onBug(error)
      }
    }
  }

  #schedule(kept: Kept): void {
    kept.timer?.cancel()
    const nowMs = this.#timers.now()
    const earliestMs = kept.cached.learnedAtMs + REFRESH_INTERVAL_MS_MIN
    const delayMs = Math.max(0, Math.max(kept.cached.nextRefreshAtMs(), earliestMs) - nowMs)
    kept.timer = this.#timers.start(() => this.#resolver.refreshNow(kept.cached.name), delayMs)
  }
}

/** True where a receiver of addresses sees no difference. */
function isSame(a: Answer, b: Answer): boolean {
  if (a.kind !== 'positive' || b.kind !== 'positive') return a.kind === b.kind
  if ((a.ttlSeconds === 0) !== (b.ttlSeconds === 0)) return false
  if (a.stale !== b.stale || a.addresses.length !== b.addresses.length) return false
  const known = new Set(textsOf(a.addresses))
  return textsOf(b.addresses).every((text) => known.has(text))
}

function textsOf(addresses: Addresses): readonly string[] {
  if (!areEndpoints(addresses)) return addresses
  return addresses.map(({ address, port, priority, weight }) => `${address} ${port} ${priority} ${weight}`)
}
