// Refusals of the last minute: the processor counts since its start, so this page remembers its counts.

const RECENT_MS = 60_000

export class RecentRefusals {
  /** Counts by reason, with their moment; oldest first. */
  #counts = []

  /** @returns {Record<string, number>} by reason, as far back as this page has seen */
  add({ at, decisions: { refused } }) {
    const last = this.#counts.at(-1)?.refused ?? {}
    // Counts go down where the processor started anew: what it counted before can't be compared.
    if (Object.keys(last).some((reason) => refused[reason] < last[reason])) this.#counts = []
    this.#counts.push({ at, refused })
    while (this.#counts.length > 1 && this.#counts[1].at <= at - RECENT_MS) this.#counts.shift()
    const [oldest] = this.#counts
    return Object.fromEntries(
      Object.entries(refused).map(([reason, all]) => [reason, all - (oldest.refused[reason] ?? 0)]),
    )
  }
}
