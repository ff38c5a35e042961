/** Lines in memory, the oldest of which make room for new ones. */

/** A reader gets a segment at a time, and so reads no longer in one go. */
const SEGMENT_OCTETS_MAX = 64 * 1024
/** So much of the whole is given up at once, at most. */
const SEGMENTS_MIN = 8

/** What of a line is known without reading it. */
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

/** Bounded in octets, all of them: nothing but a few numbers a segment is kept beside the lines. */
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

  /** True once lines have been given up. */
  get hasMadeRoom(): boolean {
    return this.#hasMadeRoom
  }

  /** The oldest line that is left; null: there is none. */
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
   * The lines, segment by segment, from the oldest on; one that may have lines of that time. What is pushed out while
   * someone reads is not read.
   */
  *texts(fromAt = Number.NEGATIVE_INFINITY, toAt = Number.POSITIVE_INFINITY): Generator<string> {
    for (const segment of [...this.#segments])
      if (this.#segments.includes(segment) && segment.maxAt >= fromAt && segment.minAt <= toAt)
        yield segment.octets.toString('utf8', 0, segment.length)
  }

  #next(seq: number, at: number): Segment {
    // Its memory is used again: a full ring allocates nothing.
    const oldest = this.#segments.length < this.#segmentsMax ? undefined : this.#segments.shift()
    if (oldest !== undefined) this.#hasMadeRoom = true
    const octets = oldest?.octets ?? Buffer.allocUnsafeSlow(this.lineOctetsMax)
    return { octets, length: 0, lines: 0, firstSeq: seq, minAt: at, maxAt: at }
  }
}
