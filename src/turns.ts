import type { Timer, Timers } from './timers.ts'

/** Time that all tasks together may use in one turn of the event loop. The rest waits for the next turn. */
const TURN_MS = 8
const ITEMS_PER_STEP = 100

/** One step of work, a millisecond or two long. Returns true if there is more to do. */
export type Task = () => boolean

/**
 * Shares the event loop between many tasks. Step by step, they use a few milliseconds of each turn. While a turn has time left
 * and nothing waits, a task starts at once.
 */
export class Turns {
  readonly #timers: Timers
  /** Waiting tasks, the oldest first. */
  readonly #waiting = new Set<Task>()
  #usedMs = 0
  #timer: Timer | undefined

  constructor(timers: Timers) {
    this.#timers = timers
  }

  /** Runs a task now or in one of the next turns, until it has no more to do. A task that already waits is not added again. */
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

  /** Removes a task if it waits. */
  drop(task: Task): void {
    this.#waiting.delete(task)
  }

  close(): void {
    this.#waiting.clear()
    this.#timer?.cancel()
    this.#timer = undefined
  }

  /**
   * Takes items a few at a time.
   * @param visit takes some 10 µs
   * @returns resolves after the last item, and stays pending if `close` comes first. Rejects with what `visit` or the iterator throws
   */
  each<Item>(items: Iterable<Item>, visit: (item: Item) => void): Promise<void> {
    const rest = items[Symbol.iterator]()
    return new Promise((resolve, reject) => {
      this.later(() => {
        try {
          for (let visited = 0; visited < ITEMS_PER_STEP; visited++) {
            const { done, value } = rest.next()
            if (done === true) {
              resolve()
              return false
            }
            visit(value)
          }
          return true
        } catch (error) {
          reject(error)
          return false
        }
      })
    })
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
