import type { Answer } from '../dns/answer.ts'
import type { ZoneStatus } from '../status/status.ts'

/** The answers that a running processor serves requests from, by name. */
export function answersInForce(zones: readonly ZoneStatus[]): Map<string, Answer> {
  const answers = new Map<string, Answer>()
  for (const { name, state, addresses, endpoints } of zones) {
    if (state === 'pinned' || state === 'maintenance') continue
    if (addresses.length === 0 && state !== 'denied') continue
    answers.set(name, {
      kind: 'positive',
      name,
      addresses: endpoints ?? addresses,
      denied: [],
      ttlSeconds: state === 'uncached' ? 0 : 1,
      stale: state === 'stale',
    })
  }
  return answers
}

/** Waits until the next name may be asked for. */
export type Turn = () => Promise<void>

/** Spreads turns evenly over each second. @param now monotonic, milliseconds */
export function turnsAt(
  perSecond: number,
  now: () => number,
  sleep: (milliseconds: number) => Promise<void>,
): Turn {
  let nextAtMs = now()
  return async () => {
    const atMs = Math.max(now(), nextAtMs)
    nextAtMs = atMs + 1000 / perSecond
    const waitMs = atMs - now()
    if (waitMs > 0) await sleep(waitMs)
  }
}

/** Asks for each name once. */
export class Answers {
  readonly #known: Map<string, Answer | Promise<Answer>>
  readonly #ask: (name: string) => Promise<Answer>
  readonly #turn: Turn
  #asked = 0

  constructor(known: ReadonlyMap<string, Answer>, ask: (name: string) => Promise<Answer>, turn: Turn) {
    this.#known = new Map(known)
    this.#ask = ask
    this.#turn = turn
  }

  /** How many names DNS was asked for. */
  get asked(): number {
    return this.#asked
  }

  readonly of = async (name: string): Promise<Answer> => {
    const known = this.#known.get(name)
    if (known !== undefined) return known
    this.#asked += 1
    const answer = this.#turn().then(() => this.#ask(name))
    this.#known.set(name, answer)
    return answer
  }
}
