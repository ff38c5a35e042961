/** Lines in memory. New lines replace the oldest. */

/** The largest segment, octets. A reader gets one segment at a time, so this bounds how long it blocks. */
const SEGMENT_OCTETS_MAX = 64 * 1024
/** A ring drops one segment at a time, an eighth of it at most. */
const SEGMENTS_MIN = 8

/** The place of a line, known without parsing it. */
export interface LinePlace {
  readonly seq: number
  readonly at: number
}

interface Segment {
  readonly octets: Buffer
  length: number
  lines: number
  firstSeq: number
  minAt: number
  maxAt: number
}

/** A ring of segments with a bound in octets. Beside the lines it keeps a few numbers for each segment. */
export class LineRing {
  readonly lineOctetsMax: number
  readonly #segmentsMax: number
  readonly #segments: Segment[] = []
  #hasMadeRoom = false

  /** @param octetsMax of all lines together */
  constructor(octetsMax: number) {
    this.lineOctetsMax = Math.min(SEGMENT_OCTETS_MAX, Math.floor(octetsMax / SEGMENTS_MIN))
    this.#segmentsMax = Math.floor(octetsMax / this.lineOctetsMax)
  }

  /** Octets in use. */
  get octets(): number {
    return this.#segments.length * this.lineOctetsMax
  }

  get lines(): number {
    return this.#segments.reduce((sum, { lines }) => sum + lines, 0)
  }

  /** True once lines have been dropped. */
  get hasMadeRoom(): boolean {
    return this.#hasMadeRoom
  }

  /** The oldest line; null: there is none. */
  get oldest(): LinePlace | null {
    const [first] = this.#segments
    return first === undefined ? null : { seq: first.firstSeq, at: first.minAt }
  }

  /** @param line with its line break, no longer than `lineOctetsMax` octets */
  push(line: string, octets: number, { seq, at }: LinePlace): void {
    let segment = this.#segments.at(-1)
    if (segment === undefined || segment.length + octets > segment.octets.length) {
      segment = this.#next(seq, at)
      this.#segments.push(segment)
    }
    segment.length += segment.octets.write(line, segment.length)
    segment.lines += 1
    segment.minAt = Math.min(segment.minAt, at)
    segment.maxAt = Math.max(segment.maxAt, at)
  }

  /**
   * The segments that may have lines of this time span, oldest first. A reader misses segments that are replaced while it
   * reads.
   */
  *texts(fromAt = Number.NEGATIVE_INFINITY, toAt = Number.POSITIVE_INFINITY): Generator<string> {
    for (const segment of [...this.#segments])
      if (this.#segments.includes(segment) && segment.maxAt >= fromAt && segment.minAt <= toAt)
        yield segment.octets.toString('utf8', 0, segment.length)
  }

  #next(seq: number, at: number): Segment {
    // Reuses the oldest segment's memory, so a full ring allocates nothing.
    const oldest = this.#segments.length < this.#segmentsMax ? undefined : this.#segments.shift()
    if (oldest !== undefined) this.#hasMadeRoom = true
    const octets = oldest?.octets ?? Buffer.allocUnsafeSlow(this.lineOctetsMax)
    return { octets, length: 0, lines: 0, firstSeq: seq, minAt: at, maxAt: at }
  }
}
