import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import * as z from 'zod'
import { parsePinned, parseZones } from '../config/zones.ts'
import { RUN_FOLDER } from '../envoy-files/folder.ts'
import { guarded, type OnBug } from '../guard.ts'
import type { Logger } from '../log.ts'
import type { SaidEntry } from '../routing/said.ts'

/** The file of pins by command, in the folder of Envoy's rendered files. */
export const PINS_FILE = join(RUN_FOLDER, 'pins.json')
/** Each pin is a line on the page: more would hide each other. */
const PINS_MAX = 100
/** 31 days: a longer pin belongs in `zones`. */
export const PIN_SECONDS_MAX = 31 * 86_400
export const BECAUSE_LENGTH_MAX = 200
export const WHO_LENGTH_MAX = 100
/** A pin ends by the wall clock, which may be set, so the timer looks at it at least this often. */
const LOOK_MS_MAX = 10_000

/** One line, as the log and the page show it. */
const line = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    .regex(/^[^\p{Cc}]*$/u, 'expected one line of text')

export const pinSchema = z.strictObject({
  /** `12`, or `mail/12` of one service or rule. */
  zone: z.string().refine(isOneZone, 'expected one zone: its id, or SERVICE/ID'),
  addresses: z
    .array(z.string().refine((text) => parsePinned(text) !== null, 'expected an address, or address:port'))
    .min(1)
    .max(32),
  who: line(WHO_LENGTH_MAX),
  because: line(BECAUSE_LENGTH_MAX),
  since: z.iso.datetime(),
  until: z.iso.datetime(),
})

/** A zone that an operator has pinned. */
export type Pin = Readonly<z.output<typeof pinSchema>>

export interface PinsStatus {
  readonly pins: readonly Pin[]
  /** Why a restart would lose pins, or what of the file could not be read; null: no fault. */
  readonly fault: string | null
}

export interface PinsSeams {
  readonly log: Pick<Logger, 'info' | 'error'>
  /** Milliseconds since 1970. */
  readonly date: () => number
  /** Called with the zones whose pins have changed. */
  readonly onChange: (zones: readonly string[]) => void
  /** Called for each pin that was set or has ended, and how. */
  readonly onPin?: (what: 'pinned' | 'unpinned' | 'pin_over', pin: Pin) => void
  readonly onBug: OnBug
}

/** The pins by command. Each is in force until its time ends, and a file keeps it over a restart. */
export class Pins {
  readonly #file: string
  readonly #seams: PinsSeams
  readonly #pins = new Map<string, Pin>()
  #timer: NodeJS.Timeout | undefined
  /** Why a part of the file could not be read at the start. */
  #unread: string | null = null
  /** Why the file does not have the pins in force. */
  #unsaved: string | null = null

  /** Reads the file, where there is one. */
  constructor(file: string, seams: PinsSeams) {
    this.#file = file
    this.#seams = seams
    for (const pin of this.#read()) this.#pins.set(keyOf(pin.zone), pin)
    this.#forgetOver()
    if (this.#unread !== null && this.#pins.size > 0) this.#write()
    this.#schedule()
  }

  status(): PinsStatus {
    return { pins: [...this.#pins.values()], fault: this.#unsaved ?? this.#unread }
  }

  /** The pins as entries for `saidOfZones`. */
  entries(): SaidEntry[] {
    return entriesOf([...this.#pins.values()])
  }

  /**
   * Pins a zone and replaces its pin, if it has one.
   * @returns why a restart would lose it; null: the file has it
   * @throws Error if there are PINS_MAX pins
   */
  set(pin: Pin): string | null {
    const key = keyOf(pin.zone)
    if (!this.#pins.has(key) && this.#pins.size >= PINS_MAX)
      throw new Error(
        `expected ${PINS_MAX} pins or fewer; unpin one first, or write them into zones of zonegate.yaml`,
      )
    this.#pins.set(key, pin)
    this.#seams.log.info(pin, 'zone pinned')
    this.#seams.onPin?.('pinned', pin)
    return this.#changed([pin.zone])
  }

  /** @returns the removed pin, or null if there was none; and why it would be back after a restart */
  remove(zone: string): { readonly pin: Pin | null; readonly fault: string | null } {
    const pin = this.#pins.get(keyOf(zone)) ?? null
    if (pin === null) return { pin, fault: null }
    this.#pins.delete(keyOf(zone))
    this.#seams.log.info(pin, 'zone unpinned')
    this.#seams.onPin?.('unpinned', pin)
    return { pin, fault: this.#changed([zone]) }
  }

  #changed(zones: readonly string[]): string | null {
    this.#write()
    if (this.#unsaved === null) this.#unread = null // the operator who changed a pin has seen it
    this.#schedule()
    this.#seams.onChange(zones)
    return this.#unsaved
  }

  #schedule(): void {
    clearTimeout(this.#timer)
    if (this.#pins.size === 0) return
    const next = Math.min(...[...this.#pins.values()].map(({ until }) => Date.parse(until)))
    const waitMs = Math.min(LOOK_MS_MAX, Math.max(1, next - this.#seams.date()))
    this.#timer = setTimeout(
      guarded(this.#seams.onBug, () => {
        const over = this.#forgetOver()
        if (over.length > 0) this.#changed(over)
        else this.#schedule()
      }),
      waitMs,
    ).unref()
  }

  /** @returns the zones whose pins have ended */
  #forgetOver(): string[] {
    const nowMs = this.#seams.date()
    const over = [...this.#pins.values()].filter(({ until }) => Date.parse(until) <= nowMs)
    for (const pin of over) {
      this.#pins.delete(keyOf(pin.zone))
      this.#seams.log.info(pin, 'zone unpinned: its time is over')
      this.#seams.onPin?.('pin_over', pin)
    }
    return over.map(({ zone }) => zone)
  }

  /** Reads the sound pins. A faulty file is renamed and logged, because it may be the only trace of who did what. */
  #read(): Pin[] {
    let text: string
    try {
      text = readFileSync(this.#file, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      this.#unread = this.#told(`can't be read (${(error as Error).message})`)
      return []
    }
    const { pins, why } = pinsIn(text)
    if (why === null) return pins
    const aside = `${this.#file}.at-fault`
    try {
      renameSync(this.#file, aside)
      this.#unread = this.#told(`${why}; ${pins.length} pins are in force, and the file is kept as ${aside}`)
    } catch (error) {
      this.#unread = this.#told(`${why}; ${pins.length} pins are in force (${(error as Error).message})`)
    }
    return pins
  }

  /** Writes all or nothing, and returns only once it is on disk. */
  #write(): void {
    const scratch = `${this.#file}.${process.pid}.tmp`
    try {
      const file = openSync(scratch, 'w', 0o600)
      try {
        writeSync(file, `${JSON.stringify({ pins: [...this.#pins.values()] }, null, 2)}\n`)
        fsyncSync(file)
      } finally {
        closeSync(file)
      }
      renameSync(scratch, this.#file)
      this.#unsaved = null
    } catch (error) {
      rmSync(scratch, { force: true })
      this.#unsaved = this.#told(
        `can't be written (${(error as Error).message}): after a restart the pins will be those of the old file`,
      )
    }
  }

  #told(what: string): string {
    const fault = `${this.#file}: ${what}`
    this.#seams.log.error({ fault }, 'pins by command')
    return fault
  }
}

/**
 * Reads the pins of the working directory without a running processor.
 * @param nowMs since 1970
 * @throws Error if the file can't be read: without the pins the answer could be wrong
 */
export function pinsOnDisk(nowMs: number, file: string = PINS_FILE): Pick<Pins, 'entries'> {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { entries: () => [] }
    throw new Error(`${file}: pins by command can't be read (${(error as Error).message})`)
  }
  const pins = pinsIn(text).pins.filter(({ until }) => Date.parse(until) > nowMs)
  return { entries: () => entriesOf(pins) }
}

function entriesOf(pins: readonly Pin[]): SaidEntry[] {
  return pins.flatMap(({ zone, addresses, who, because, until }) => {
    const zones = parseZones(zone)
    if (typeof zones === 'string') return []
    const by = { who, because, untilMs: Date.parse(until) }
    const pinned = addresses.map(parsePinned).filter((address) => address !== null)
    return [{ key: zone, ...zones, says: { kind: 'pinned', addresses: pinned, by } }]
  })
}

/** @returns the sound pins, and what is wrong with the others */
function pinsIn(text: string): { pins: Pin[]; why: string | null } {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return { pins: [], why: `is not JSON (${(error as Error).message})` }
  }
  const list = (value as { pins?: unknown } | null)?.pins
  if (!Array.isArray(list)) return { pins: [], why: 'has no list "pins"' }
  const read = list.map((each) => pinSchema.safeParse(each))
  const pins = read.flatMap(({ data }) => data ?? []).slice(0, PINS_MAX)
  const lost = list.length - pins.length
  return { pins, why: lost === 0 ? null : `has ${lost} invalid pins` }
}

function isOneZone(text: string): boolean {
  const zones = parseZones(text)
  return typeof zones !== 'string' && zones.ids.length === 1 && !zones.ids.includes('*')
}

/** Ids are compared without regard to case. */
function keyOf(zone: string): string {
  return zone.toLowerCase()
}
