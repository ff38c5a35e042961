/** Names that are kept resolved for as long as someone holds them, and told of when what they resolve to changes. */
import type { Answer } from './answer.ts'
import type { CachedName } from './cached-name.ts'
import type { CachingResolver } from './caching-resolver.ts'
import { parseDomainName } from './domain-name.ts'
import type { Timer, Timers } from './timers.ts'

/** For answers that may not be cached at all (TTL 0). */
const REFRESH_INTERVAL_MS_MIN = 1000

export interface KeptName {
  readonly name: string
  /** What is known now, stale where nothing better is; null before the first answer. */
  current(): Answer | null
  /** When the lifetime of the current answer ends, on the clock given to `createDns`; null where there is none. */
  expiresAtMs(): number | null
  /** Ends it. No callback comes afterwards. */
  release(): void
}

interface Kept {
  readonly cached: CachedName
  readonly listeners: Set<(answer: Answer) => void>
  told: Answer | null
  timer: Timer | null
}

export class KeptNames {
  readonly #resolver: CachingResolver
  readonly #timers: Timers
  readonly #kept = new Map<string, Kept>()

  constructor(resolver: CachingResolver, timers: Timers) {
    this.#resolver = resolver
    this.#timers = timers
    resolver.onLearned = (cached, answer) => this.#onLearned(cached, answer)
  }

  get size(): number {
    return this.#kept.size
  }

  has(name: string): boolean {
    return this.#kept.has(name)
  }

  /** Null where the text is no domain name. `onChange`: the class, the set of addresses or staleness became another. */
  keep(text: string, onChange: (answer: Answer) => void): KeptName | null {
    const name = parseDomainName(text)
    if (name === null || name === '') return null
    let kept = this.#kept.get(name)
    if (kept === undefined) {
      const cached = this.#resolver.pin(name)
      kept = { cached, listeners: new Set(), told: cached.answerAt(this.#timers.now()), timer: null }
      this.#kept.set(name, kept)
      this.#schedule(kept)
    }
    const { cached, listeners } = kept
    // A function of its own: the same one may be given twice.
    const listener = (answer: Answer): void => onChange(answer)
    listeners.add(listener)
    return {
      name,
      current: () => cached.answerAt(this.#timers.now()) ?? cached.staleAt(this.#timers.now()),
      expiresAtMs: () => cached.expiresAtMs,
      release: () => {
        listeners.delete(listener)
        if (listeners.size === 0) this.#release(name)
      },
    }
  }

  close(): void {
    for (const kept of this.#kept.values()) kept.timer?.cancel()
    this.#kept.clear()
  }

  /** New nameservers, or all answers ended: everything is asked for again, at the refresh queue's pace. */
  refreshAll(): void {
    for (const kept of this.#kept.values()) this.#schedule(kept)
  }

  #release(name: string): void {
    const kept = this.#kept.get(name)
    if (kept === undefined) return
    kept.timer?.cancel()
    this.#kept.delete(name)
    this.#resolver.unpin(name)
  }

  #onLearned(cached: CachedName, answer: Answer): void {
    const kept = this.#kept.get(cached.name)
    if (kept === undefined) return
    this.#schedule(kept)
    const current = answer.kind === 'failure' ? (cached.answerAt(this.#timers.now()) ?? answer) : answer
    const before = kept.told
    kept.told = current
    if (before !== null && isSame(before, current)) return
    for (const listener of kept.listeners) listener(current)
  }

  #schedule(kept: Kept): void {
    kept.timer?.cancel()
    const nowMs = this.#timers.now()
    const earliestMs = kept.cached.learnedAtMs + REFRESH_INTERVAL_MS_MIN
    const delayMs = Math.max(0, Math.max(kept.cached.nextRefreshAtMs(), earliestMs) - nowMs)
    kept.timer = this.#timers.start(() => this.#resolver.refreshNow(kept.cached.name), delayMs)
  }
}

/** True where a receiver of addresses would see no difference. */
function isSame(a: Answer, b: Answer): boolean {
  if (a.kind !== 'positive' || b.kind !== 'positive') return a.kind === b.kind
  if (a.stale !== b.stale || a.addresses.length !== b.addresses.length) return false
  const addresses = new Set(a.addresses)
  return b.addresses.every((address) => addresses.has(address))
}
