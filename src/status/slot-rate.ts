import { SLOT_SECONDS } from './zone-activity.ts'

/** A rate over the last two whole slots, as zones have theirs: reports of several Envoys don't keep step with slots. */
export class SlotRate {
  #open = 0
  #closed: readonly [number, number] = [0, 0]

  count(requests: number): void {
    this.#open += requests
  }

  /** Call it each SLOT_SECONDS. */
  nextSlot(): void {
    this.#closed = [this.#open, this.#closed[0]]
    this.#open = 0
  }

  /** To a tenth. */
  get perSecond(): number {
    const [last, before] = this.#closed
    return Math.round(((last + before) / (2 * SLOT_SECONDS)) * 10) / 10
  }
}
