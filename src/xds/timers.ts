/** Time as an argument, in the shape of `src/dns/timers.ts`: Node's own, which is there, does for both. */
export interface Timers {
  /** Monotonic, milliseconds from any origin. */
  now(): number
  start(callback: () => void, milliseconds: number): Timer
}

export interface Timer {
  cancel(): void
}
