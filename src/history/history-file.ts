import {
  appendFileSync,
  closeSync,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  write,
} from 'node:fs'
import { promisify } from 'node:util'
import { guarded } from '../guard.ts'

const writeTo = promisify(write)

/** How long a line waits for others, to be written together. */
const WRITE_AFTER_MS = 100
/** From a failure to the next try. */
const RETRY_AFTER_MS = 1000
/** Octets that wait while the disk can't be written; later lines never reach the file. */
const WAITING_OCTETS_MAX = 1024 * 1024

export interface HistoryFileSeams {
  readonly onBug: (error: unknown) => void
  /** Called when writing fails, with the reason, and with null when it works again. */
  readonly onFault: (fault: string | null) => void
  /** Lines that each new file begins with, so that rotation does not lose them. */
  readonly head: () => Iterable<string>
}

/**
 * Lines on disk, in the current file and the previous one (`.1`). A full or read-only disk loses lines, and nothing waits
 * for it.
 */
export class HistoryFile {
  readonly #path: string
  readonly #octetsMax: number
  readonly #seams: HistoryFileSeams
  #waiting: string[] = []
  #waitingOctets = 0
  #descriptor: number | null = null
  #size = 0
  #timer: NodeJS.Timeout | undefined
  #isWriting = false
  #isClosed = false
  /** The file may end with half a line. */
  #mayBeTorn = true
  fault: string | null = null
  /** Lines that were not written. */
  lost = 0

  /** @param octetsMax of both files together */
  constructor(path: string, octetsMax: number, seams: HistoryFileSeams) {
    this.#path = path
    this.#octetsMax = octetsMax
    this.#seams = seams
  }

  /** Reads both files, the older one first, as an earlier process wrote them. */
  read(): string[] {
    return [`${this.#path}.1`, this.#path].flatMap((path) => {
      try {
        return [tailOf(path, this.#octetsMax)]
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#failed(error)
        return []
      }
    })
  }

  append(line: string, octets: number): void {
    if (this.#isClosed) return
    if (this.#waitingOctets + octets > WAITING_OCTETS_MAX) {
      this.lost += 1
      return
    }
    this.#waiting.push(line)
    this.#waitingOctets += octets
    this.#schedule(this.fault === null ? WRITE_AFTER_MS : RETRY_AFTER_MS)
  }

  /** Writes the waiting lines at once. */
  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    if (this.#waiting.length > 0) {
      try {
        appendFileSync(this.#path, `${this.#mayBeTorn ? '\n' : ''}${this.#waiting.join('')}`, { mode: 0o600 })
      } catch {
        this.lost += this.#waiting.length
      }
      this.#waiting = []
    }
    if (this.#descriptor !== null && !this.#isWriting) closeSync(this.#descriptor)
  }

  #schedule(afterMs: number): void {
    if (this.#timer !== undefined || this.#isWriting) return
    const write = guarded(this.#seams.onBug, () => {
      this.#timer = undefined
      return this.#write()
    })
    this.#timer = setTimeout(write, afterMs).unref()
  }

  async #write(): Promise<void> {
    const lines = this.#waiting
    this.#waiting = []
    this.#waitingOctets = 0
    this.#isWriting = true
    try {
      const octets = Buffer.from(lines.join(''))
      await this.#put(octets)
      if (this.#size > this.#octetsMax / 2) await this.#rotate()
      this.#recovered()
    } catch (error) {
      this.#failed(error)
      this.#keep(lines)
    } finally {
      this.#isWriting = false
    }
    if (this.#isClosed) this.#closeDescriptor()
    else if (this.#waiting.length > 0) this.#schedule(this.fault === null ? WRITE_AFTER_MS : RETRY_AFTER_MS)
  }

  async #put(octets: Buffer): Promise<void> {
    const descriptor = this.#open()
    const text = this.#mayBeTorn ? Buffer.concat([Buffer.from('\n'), octets]) : octets
    this.#mayBeTorn = true
    for (let at = 0; at < text.length; ) {
      const { bytesWritten } = await writeTo(descriptor, text, at, text.length - at, null)
      at += bytesWritten
      this.#size += bytesWritten
    }
    this.#mayBeTorn = false
  }

  async #rotate(): Promise<void> {
    renameSync(this.#path, `${this.#path}.1`)
    this.#closeDescriptor()
    for (const text of this.#seams.head()) await this.#put(Buffer.from(text))
  }

  #open(): number {
    if (this.#descriptor === null) {
      // Opening a pipe blocks until somebody reads it.
      if (statSync(this.#path, { throwIfNoEntry: false })?.isFIFO() === true) throw new Error('is a pipe')
      this.#descriptor = openSync(this.#path, 'a', 0o600)
      this.#size = fstatSync(this.#descriptor).size
      this.#mayBeTorn = this.#size > 0
    }
    return this.#descriptor
  }

  #closeDescriptor(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor)
    this.#descriptor = null
  }

  /** Keeps lines for another try. Some may be in the file already; readers drop duplicates by `seq`. */
  #keep(lines: readonly string[]): void {
    this.#closeDescriptor()
    const all = [...lines, ...this.#waiting]
    const kept: string[] = []
    let octets = 0
    for (const line of all) {
      octets += Buffer.byteLength(line)
      if (octets > WAITING_OCTETS_MAX) break
      kept.push(line)
    }
    this.lost += all.length - kept.length
    this.#waiting = kept
    this.#waitingOctets = Math.min(octets, WAITING_OCTETS_MAX)
  }

  #failed(error: unknown): void {
    const { message, code } = error as NodeJS.ErrnoException
    const isNew = this.fault === null
    this.fault = `${this.#path}: can't be written (${code ?? message})`
    if (isNew) this.#seams.onFault(this.fault)
  }

  #recovered(): void {
    if (this.fault === null) return
    this.fault = null
    this.#seams.onFault(null)
  }
}

/** The last octets of a file; empty for a pipe or a folder. */
function tailOf(path: string, octetsMax: number): string {
  const stat = statSync(path)
  if (!stat.isFile()) return ''
  const descriptor = openSync(path, 'r')
  try {
    const octets = Buffer.alloc(Math.min(stat.size, octetsMax))
    const read = readSync(descriptor, octets, 0, octets.length, stat.size - octets.length)
    return octets.toString('utf8', 0, read)
  } finally {
    closeSync(descriptor)
  }
}
