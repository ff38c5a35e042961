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
  return {
    now,
    start(callback, milliseconds) {
      const timeout = setTimeout(callback, milliseconds)
      timeout.unref()
      return { cancel: () => clearTimeout(timeout) }
    },
  }
}
