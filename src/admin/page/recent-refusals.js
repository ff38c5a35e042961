// Refusals of the last minute. The processor counts from its start, so the page remembers earlier counts.

const RECENT_MS = 60_000

export class RecentRefusals {
  /** Counts by reason, with their time; oldest first. */
  #counts = []

  /** @returns {Record<string, number>} by reason; only since this page was opened, if that is less than a minute */
  add({ at, decisions: { refused } }) {
    const last = this.#counts.at(-1)?.refused ?? {}
    // Lower counts mean that the processor has restarted.
    if (Object.keys(last).some((reason) => refused[reason] < last[reason])) this.#counts = []
    this.#counts.push({ at, refused })
    while (this.#counts.length > 1 && this.#counts[1].at <= at - RECENT_MS) this.#counts.shift()
    const [oldest] = this.#counts
    return Object.fromEntries(
      Object.entries(refused).map(([reason, all]) => [reason, all - (oldest.refused[reason] ?? 0)]),
    )
  }
}
