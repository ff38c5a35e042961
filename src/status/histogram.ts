/** Observations by upper bound, as Prometheus counts them. An observation costs a few comparisons and no allocation. */
export class Histogram {
  /** Upper bounds, ascending; above the last one is infinity. */
  readonly bounds: readonly number[]
  readonly #counts: Float64Array
  #sum = 0
  #count = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    this.#counts = new Float64Array(bounds.length)
  }

  get sum(): number {
    return this.#sum
  }

  get count(): number {
    return this.#count
  }

  observe(value: number): void {
    this.#sum += value
    this.#count += 1
    for (let at = 0; at < this.bounds.length; at++) {
      if (value <= (this.bounds[at] as number)) {
        this.#counts[at] = (this.#counts[at] as number) + 1
        return
      }
    }
  }

  /** How many were at most as large as each bound. */
  cumulative(): number[] {
    let sum = 0
    return [...this.#counts].map((count) => {
      sum += count
      return sum
    })
  }
}
