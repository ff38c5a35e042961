import type { EnvoyListeners } from '../xds/envoy-stream.ts'

/** How long an Envoy may take to read a saved listener. */
export const READ_WITHIN_MS = 5000
/** How long an Envoy that has just connected may take: one that starts first gets its clusters. */
export const CONNECTED_WITHIN_MS = 10_000

/** Finds out which Envoys use the listener that the processor wrote. Envoy reports a refusal only in its own log. */
export class ListenerInForce {
  readonly #now: () => number
  readonly #envoys: () => readonly EnvoyListeners[]
  #written: readonly string[] = []
  #writtenAtMs = 0
  #told = new Set<string>()

  /** @param now monotonic, milliseconds */
  constructor(now: () => number, envoys: () => readonly EnvoyListeners[]) {
    this.#now = now
    this.#envoys = envoys
  }

  /** The processor has written a file with listeners of these names, which may be the same as before. */
  written(names: readonly string[]): void {
    if (names.join() === this.#written.join()) return
    this.#written = names
    this.#writtenAtMs = this.#now()
    this.#told = new Set()
  }

  /** Names of Envoys that have had the time to use the written listeners and don't. */
  refusing(): string[] {
    if (this.#now() - this.#writtenAtMs < READ_WITHIN_MS) return []
    const late = this.#envoys().filter(
      ({ connectedMs, listeners }) =>
        connectedMs >= CONNECTED_WITHIN_MS && !this.#written.every((name) => listeners.has(name)),
    )
    return [...new Set(late.map(({ envoy }) => envoy))]
  }

  /** The same, but each Envoy only once for each written listener. */
  refusingSinceLast(): string[] {
    const news = this.refusing().filter((envoy) => !this.#told.has(envoy))
    for (const envoy of news) this.#told.add(envoy)
    return news
  }
}
