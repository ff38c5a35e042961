import { guarded, type OnBug } from '../guard.ts'

/** Time as an argument: a clock that only moves forwards, and timers on it. */
export interface Timers {
  /** Monotonic, milliseconds from any origin. */
  now(): number
  start(callback: () => void, milliseconds: number): Timer
}

export interface Timer {
  cancel(): void
}

/**
 * Node's own. The timers don't keep the process alive by themselves: sockets and servers do.
 * @param onBug told of an exception in a callback
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
