/** The most lines of one kind at once, and the lines per second after that. */
const BURST = 20
const LINES_PER_SECOND = 5

/** Returns null to leave a line out, else how many lines of its kind were left out since the last one. */
export type LineLimit = (kind: string) => { readonly suppressed?: number } | null

/**
 * Limits log lines with a token bucket for each kind, so that a flood of one kind neither fills the disk nor hides other kinds.
 * Kinds must come from closed lists, never from a client: the limit keeps a bucket for each.
 * @param now monotonic, milliseconds
 */
export function createLineLimit(now: () => number): LineLimit {
  const buckets = new Map<string, { tokens: number; filledAt: number; suppressed: number }>()
  return (kind) => {
    const at = now()
    let bucket = buckets.get(kind)
    if (bucket === undefined) {
      bucket = { tokens: BURST, filledAt: at, suppressed: 0 }
      buckets.set(kind, bucket)
    }
    bucket.tokens = Math.min(BURST, bucket.tokens + ((at - bucket.filledAt) / 1000) * LINES_PER_SECOND)
    bucket.filledAt = at
    if (bucket.tokens < 1) {
      bucket.suppressed += 1
      return null
    }
    bucket.tokens -= 1
    const { suppressed } = bucket
    bucket.suppressed = 0
    return suppressed > 0 ? { suppressed } : {}
  }
}
