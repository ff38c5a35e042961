/** Time as an argument. */
export interface Clock {
  /** Milliseconds since any fixed moment; never goes back. */
  nowMs(): number
  /** Calls back once, after a delay. @returns calls it off */
  schedule(delayMs: number, callback: () => void): () => void
}
