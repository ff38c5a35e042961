import { write } from 'node:fs'

/** Octets that may wait for the reader of the log, about 20,000 lines. Further lines are left out and counted. */
const WAITING_OCTETS_MAX = 4 * 1024 * 1024
/** The most octets per second after a burst, about 3,000 lines. A log that grows faster would fill the disk. */
const OCTETS_PER_SECOND = 1024 * 1024
/** An upper limit on the length of the line that says how many are missing. */
const REPORT_OCTETS_MAX = 1024
/** The pause before writing again to a full pipe (EAGAIN). */
const RETRY_MS = 100
/** How long the process waits for the reader at its end. */
const END_WITHIN_MS = 1000

/**
 * Writes lines to a file descriptor in order, and never blocks, whether the reader is slow or gone. pino's own destination
 * keeps all lines that a slow reader has not read, and at the end of the process it tries for ever to write to a pipe that
 * nobody reads (sonic-boom 4.2, `flushSync` at EPIPE).
 */
export class LogOutput {
  readonly #fd: number
  /** Called with the number of missing lines when there is room again. */
  readonly #onMissing: (lines: number) => void
  readonly #now: () => number
  #waiting: string[] = []
  #waitingOctets = 0
  /** Octets that may be written now. Grows up to WAITING_OCTETS_MAX. */
  #allowed = WAITING_OCTETS_MAX
  #allowedAt: number
  #missing = 0
  #isWriting = false
  #isGone = false
  #onIdle: (() => void)[] = []

  /** @param now monotonic, milliseconds */
  constructor(fd: number, onMissing: (lines: number) => void, now: () => number = () => performance.now()) {
    this.#fd = fd
    this.#onMissing = onMissing
    this.#now = now
    this.#allowedAt = now()
  }

  write(line: string): void {
    if (this.#isGone) return
    const octets = Buffer.byteLength(line)
    if (this.#waitingOctets + octets > WAITING_OCTETS_MAX || !this.#isRoomFor(octets)) {
      this.#missing += 1
      return
    }
    this.#allowed -= octets
    this.#waiting.push(line)
    this.#waitingOctets += octets
    if (!this.#isWriting) this.#writeWaiting()
  }

  #isRoomFor(octets: number): boolean {
    const at = this.#now()
    const more = ((at - this.#allowedAt) / 1000) * OCTETS_PER_SECOND
    this.#allowed = Math.min(WAITING_OCTETS_MAX, this.#allowed + more)
    this.#allowedAt = at
    return octets <= this.#allowed
  }

  /** Calls `done` when all lines are written, or after END_WITHIN_MS. */
  flush(done: () => void): void {
    if (!this.#isWriting) {
      done()
      return
    }
    let called = false
    const once = (): void => {
      if (called) return
      called = true
      clearTimeout(timer)
      done()
    }
    const timer = setTimeout(once, END_WITHIN_MS)
    this.#onIdle.push(once)
  }

  #writeWaiting(): void {
    const octets = Buffer.from(this.#waiting.join(''))
    this.#waiting = []
    this.#waitingOctets = 0
    this.#isWriting = true
    this.#write(octets)
  }

  #write(octets: Buffer): void {
    write(this.#fd, octets, (error, written) => {
      if (error?.code === 'EAGAIN') setTimeout(() => this.#write(octets), RETRY_MS)
      else if (error !== null) this.#end()
      else if (written < octets.length) this.#write(octets.subarray(written))
      else this.#wrote()
    })
  }

  #wrote(): void {
    this.#isWriting = false
    const missing = this.#missing
    if (missing > 0 && this.#isRoomFor(REPORT_OCTETS_MAX)) {
      this.#missing = 0
      this.#onMissing(missing)
    }
    if (!this.#isWriting && this.#waiting.length > 0) this.#writeWaiting()
    if (!this.#isWriting) for (const done of this.#onIdle.splice(0)) done()
  }

  /** The reader is gone (EPIPE), or the descriptor can't be written. */
  #end(): void {
    this.#isGone = true
    this.#waiting = []
    this.#isWriting = false
    for (const done of this.#onIdle.splice(0)) done()
  }
}
