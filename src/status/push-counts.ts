import type { EnvoyStatus } from '../xds/ads-service.ts'

export interface Answers {
  readonly acks: number
  readonly nacks: number
}

const KINDS: readonly (keyof EnvoyStatus['resources'])[] = ['cluster', 'endpoints', 'virtualHost']
/** Streams to Envoys that are remembered; one that comes back is a new stream. */
const STREAMS_MAX = 256

/** What Envoys answered to pushes, since the start: adds up what each stream tells of itself, beyond its end. */
export class PushCounts {
  readonly #totals = new Map<string, { acks: number; nacks: number }>(
    KINDS.map((kind) => [kind, { acks: 0, nacks: 0 }]),
  )
  readonly #seen = new Map<string, Record<string, Answers>>()

  /** By kind of resource. */
  get totals(): ReadonlyMap<string, Answers> {
    return this.#totals
  }

  /** Call it often: what a stream did after the last call before its end is missed. */
  update(envoys: readonly EnvoyStatus[], nowMs: number): void {
    for (const { envoy, connectedMs, resources } of envoys) {
      const stream = `${envoy} ${Math.round(nowMs - connectedMs)}`
      const before = this.#seen.get(stream)
      for (const [kind, { acks, nacks }] of Object.entries(resources)) {
        const total = this.#totals.get(kind) ?? { acks: 0, nacks: 0 }
        total.acks += acks - (before?.[kind]?.acks ?? 0)
        total.nacks += nacks - (before?.[kind]?.nacks ?? 0)
        this.#totals.set(kind, total)
      }
      this.#seen.delete(stream)
      this.#seen.set(stream, resources)
    }
    const [oldest] = this.#seen.keys()
    if (this.#seen.size > STREAMS_MAX && oldest !== undefined) this.#seen.delete(oldest)
  }
}
