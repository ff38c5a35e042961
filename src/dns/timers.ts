/** Time as an argument: a clock that only moves forwards, and timers on it. */
export interface Timers {
  /** Monotonic, milliseconds from any origin. */
  now(): number
  start(callback: () => void, milliseconds: number): Timer
}

export interface Timer {
  cancel(): void
}

/** Node's own. The timers don't keep the process alive by themselves: sockets and servers do. */
export function nodeTimers(now: () => number): Timers {
  return { now, start: (callback, milliseconds) => new NodeTimer(callback, milliseconds) }
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
