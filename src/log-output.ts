import { write } from 'node:fs'

/** Octets that may wait for whoever reads the log: some 20,000 lines. What comes then is left out, and counted. */
const WAITING_OCTETS_MAX = 4 * 1024 * 1024
/** Octets a second, and so many at once before that: a log that grows faster fills a disk. Some 3,000 lines. */
export const OCTETS_PER_SECOND = 1024 * 1024
/** The line that tells how many are missing. */
const REPORT_OCTETS_MAX = 1024
/** A pipe that takes nothing at the moment (EAGAIN) is tried again so soon. */
const RETRY_MS = 100
/** At the end of the process: how long a reader may keep it waiting. */
const END_WITHIN_MS = 1000

/**
 * Writes lines to a file descriptor in order, and never makes anybody wait: neither for a reader that stands still, nor for
 * one that is gone, at the end of the process either. pino's own destination tries for ever to write its last lines to a pipe
 * that nobody reads (sonic-boom 4.2, `flushSync` at EPIPE), and keeps all lines that a slow reader has not taken.
 */
export class LogOutput {
  readonly #fd: number
  /** How many lines are missing, once there is room again. */
  readonly #onMissing: (lines: number) => void
  readonly #now: () => number
  #waiting: string[] = []
  #waitingOctets = 0
  /** What may be written now; it fills up to WAITING_OCTETS_MAX. */
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

  /** Calls back when all is written, or after END_WITHIN_MS. */
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

  /** Nobody reads it any more (EPIPE), or nobody ever will. */
  #end(): void {
    this.#isGone = true
    this.#waiting = []
    this.#isWriting = false
    for (const done of this.#onIdle.splice(0)) done()
  }
}
