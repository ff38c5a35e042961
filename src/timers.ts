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

class NodeTimer implements Timer {
  readonly #timeout: NodeJS.Timeout

  constructor(callback: () => void, milliseconds: number) {
    this.#timeout = setTimeout(callback, milliseconds)
    this.#timeout.unref()
  }

  cancel(): void {
    clearTimeout(this.#timeout)
  }
}
