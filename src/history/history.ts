import { guarded } from '../guard.ts'
import { type HistoryEvent, LANES, type Lane, laneOf, type Recorded } from './event.ts'
import { HistoryFile } from './history-file.ts'
import { LineRing } from './line-ring.ts'
import { decodeLines, encode, isReadable } from './record.ts'

/** The share of `bytes` that each lane has. */
const SHARES: Readonly<Record<Lane, number>> = { gateway: 1 / 4, zones: 1 / 2, refused: 1 / 4 }
/** How often the wall clock is compared with the monotonic one, and how far off counts as set. */
const CLOCK_EVERY_MS = 2000
const CLOCK_OFF_MS_MIN = 1500

export interface HistoryOptions {
  /** The bound in memory, and again on disk. */
  readonly bytes: number
  /** Null: in memory only. */
  readonly path: string | null
}

export interface HistorySeams {
  /** Wall clock, milliseconds since 1970. */
  readonly date: () => number
  /** Monotonic, milliseconds. */
  readonly now: () => number
  readonly log: {
    info(fields: object, text: string): void
    error(fields: object, text: string): void
  }
  readonly onBug: (error: unknown) => void
}

export interface HistoryStatus {
  readonly events: number
  /** In memory. */
  readonly bytes: number
  readonly bytesMax: number
  /** Milliseconds since 1970; null: nothing is kept yet. */
  readonly oldestAt: number | null
  /** Why the file can't be written; null: it can, or there is none. */
  readonly fault: string | null
  /** Events that are not in the file. */
  readonly lost: number
}

/** Recent changes, in memory and, with a path, on disk. */
export class History {
  readonly #options: HistoryOptions
  readonly #seams: HistorySeams
  readonly #rings: Readonly<Record<Lane, LineRing>>
  readonly #file: HistoryFile | null
  readonly #clock: NodeJS.Timeout
  #seq = 0
  /** False where the file was missing events. */
  #isWhole = true
  #offsetMs: number
  #mayBeOffBy: number | null = null

  /** Reads the events that an earlier process left in the file. */
  constructor(options: HistoryOptions, seams: HistorySeams) {
    this.#options = options
    this.#seams = seams
    const ring = (lane: Lane): LineRing => new LineRing(Math.floor(options.bytes * SHARES[lane]))
    this.#rings = { gateway: ring('gateway'), zones: ring('zones'), refused: ring('refused') }
    this.#file =
      options.path === null
        ? null
        : new HistoryFile(options.path, options.bytes, {
            onBug: seams.onBug,
            onFault: (fault) => this.#tellFault(fault),
            head: () => this.#rings.gateway.texts(),
          })
    this.#load()
    this.#offsetMs = seams.date() - seams.now()
    const compare = guarded(seams.onBug, () => this.#compareClocks())
    this.#clock = setInterval(compare, CLOCK_EVERY_MS).unref()
  }

  record(event: HistoryEvent): void {
    const ring = this.#rings[laneOf(event.kind)]
    const place = { seq: this.#seq + 1, at: this.#seams.date() }
    const line = encode(event, place.seq, place.at, ring.lineOctetsMax)
    const octets = Buffer.byteLength(line)
    if (octets > ring.lineOctetsMax) return
    this.#seq = place.seq
    ring.push(line, octets, place)
    this.#file?.append(line, octets)
  }

  status(): HistoryStatus {
    const rings = Object.values(this.#rings)
    const oldest = rings.flatMap(({ oldest: each }) => each?.at ?? [])
    return {
      events: rings.reduce((sum, { lines }) => sum + lines, 0),
      bytes: rings.reduce((sum, { octets }) => sum + octets, 0),
      bytesMax: this.#options.bytes,
      oldestAt: oldest.length === 0 ? null : Math.min(...oldest),
      fault: this.#file?.fault ?? null,
      lost: this.#file?.lost ?? 0,
    }
  }

  /** The time since which the lane is complete; null: it always was. */
  completeSince(lane: Lane): number | null {
    const { oldest, hasMadeRoom } = this.#rings[lane]
    return oldest === null || (this.#isWhole && !hasMadeRoom) ? null : oldest.at
  }

  /**
   * Events of these lanes, in parts that may reach beyond the time span. The caller can let other work run between two parts.
   * Events are in order within a lane only.
   * @param mayBe false for a text without events of interest, which is then not parsed
   */
  *parts(
    { lanes = LANES, fromAt, toAt }: { lanes?: readonly Lane[]; fromAt?: number; toAt?: number } = {},
    mayBe: (line: string) => boolean = () => true,
  ): Generator<Recorded[]> {
    for (const lane of lanes)
      for (const text of this.#rings[lane].texts(fromAt, toAt))
        yield [...decodeLines(mayBe(text) ? text : '')]
  }

  close(): void {
    clearInterval(this.#clock)
    this.#file?.close()
  }

  #load(): void {
    const records = new Map<number, Recorded>()
    for (const text of this.#file?.read() ?? [])
      for (const record of decodeLines(text)) if (isReadable(record)) records.set(record.seq, record)
    for (const record of [...records.values()].sort((a, b) => a.seq - b.seq)) {
      const ring = this.#rings[laneOf(record.kind)]
      const line = `${JSON.stringify(record)}\n`
      const octets = Buffer.byteLength(line)
      if (octets <= ring.lineOctetsMax) ring.push(line, octets, record)
      this.#seq = Math.max(this.#seq, record.seq)
    }
    this.#isWhole = records.size === this.#seq
  }

  /** Records a clock step only if the next comparison confirms it: a machine that wakes up updates one clock before the other. */
  #compareClocks(): void {
    const offByMs = this.#seams.date() - this.#seams.now() - this.#offsetMs
    if (Math.abs(offByMs) < CLOCK_OFF_MS_MIN) {
      this.#offsetMs += offByMs // small drift: the clock is being slewed
      this.#mayBeOffBy = null
    } else if (this.#mayBeOffBy !== null && Math.abs(offByMs - this.#mayBeOffBy) < CLOCK_OFF_MS_MIN) {
      this.#offsetMs += offByMs
      this.#mayBeOffBy = null
      this.record({ kind: 'clock_set', byMs: Math.round(offByMs) })
    } else this.#mayBeOffBy = offByMs
  }

  #tellFault(fault: string | null): void {
    const { log } = this.#seams
    if (fault === null) log.info({ lost: this.#file?.lost ?? 0 }, 'the history file is written again')
    else
      log.error(
        { fault },
        'the history file can not be written: a restart loses the events that are only in memory',
      )
  }
}
