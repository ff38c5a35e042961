import { guarded, type OnBug } from './guard.ts'

/** A monotonic clock and timers on it. Both are arguments, so that tests can pass their own. */
export interface Timers {
  /** Milliseconds from any origin. */
  now(): number
  start(callback: () => void, milliseconds: number): Timer
}

export interface Timer {
  cancel(): void
}

/**
 * Node's timers. They don't keep the process alive: sockets and servers do.
 * @param onBug receives an exception of a callback
 */
export function nodeTimers(now: () => number, onBug: OnBug): Timers {
  return { now, start: (callback, milliseconds) => new NodeTimer(guarded(onBug, callback), milliseconds) }
}

/** The longest time of Node's timers, milliseconds: 25 days. Without this limit a longer one would end at once. */
export const TIMER_MS_MAX = 2 ** 31 - 1

class NodeTimer implements Timer {
  readonly #timeout: NodeJS.Timeout

  constructor(callback: () => void, milliseconds: number) {
    this.#timeout = setTimeout(callback, Math.min(milliseconds, TIMER_MS_MAX))
    this.#timeout.unref()
  }

  cancel(): void {
    clearTimeout(this.#timeout)
  }
}
