import type { Timer, Timers } from './timers.ts'

/** Of one turn of the event loop, milliseconds: what is left then waits for the next. */
const TURN_MS = 8

/** @returns true where there is more to do */
export type Task = () => boolean

/**
 * Lets many share the event loop: together they take a few milliseconds of each of its turns, one step after the other,
 * and a step is the work of a millisecond or two. What comes first is done at once.
 */
export class Turns {
  readonly #timers: Timers
  /** The one that waits longest first. */
  readonly #waiting = new Set<Task>()
  #usedMs = 0
  #timer: Timer | undefined

  constructor(timers: Timers) {
    this.#timers = timers
  }

  /** Runs a task now or in one of the next turns, until it has no more to do. One that waits already waits once. */
  take(task: Task): void {
    if (this.#waiting.size > 0 || this.#usedMs >= TURN_MS) this.#waiting.add(task)
    else this.#step(task)
    this.#timer ??= this.#timers.start(() => this.#turn(), 0)
  }

  /** Runs a task in one of the next turns. */
  later(task: Task): void {
    this.#waiting.add(task)
    this.#timer ??= this.#timers.start(() => this.#turn(), 0)
  }

  /** Leaves a task out, should it wait. */
  drop(task: Task): void {
    this.#waiting.delete(task)
  }

  close(): void {
    this.#waiting.clear()
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #turn(): void {
    this.#timer = undefined
    this.#usedMs = 0
    for (const task of this.#waiting) {
      if (this.#usedMs >= TURN_MS) break
      this.#waiting.delete(task)
      this.#step(task)
    }
    if (this.#waiting.size > 0) this.#timer ??= this.#timers.start(() => this.#turn(), 0)
  }

  #step(task: Task): void {
    const startedMs = this.#timers.now()
    const hasMore = task()
    this.#usedMs += this.#timers.now() - startedMs
    if (hasMore) this.#waiting.add(task)
  }
}
