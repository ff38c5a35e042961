import type { Kind } from '../xds/resource.ts'

export interface Answers {
  readonly acks: number
  readonly nacks: number
}

/** What Envoys answered to pushes, since the start. */
export class PushCounts {
  readonly #totals: Readonly<Record<Kind, { acks: number; nacks: number }>> = {
    cluster: { acks: 0, nacks: 0 },
    endpoints: { acks: 0, nacks: 0 },
    virtualHost: { acks: 0, nacks: 0 },
  }

  /** By kind of resource. */
  get totals(): Readonly<Record<Kind, Answers>> {
    return this.#totals
  }

  count(kind: Kind, answer: keyof Answers): void {
    this.#totals[kind][answer] += 1
  }
}
