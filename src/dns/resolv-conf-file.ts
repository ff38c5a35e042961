/** The resolv.conf in force. An empty, broken or unreadable file never replaces a good one. */
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { guarded } from '../guard.ts'
import type { Timer, Timers } from '../timers.ts'
import { watchFileForChanges } from '../watch-file.ts'
import type { DnsEvent } from './events.ts'
import {
  absentResolvConf,
  parseResolvConf,
  type ResolvConf,
  type ResolverEnvironment,
} from './resolv-conf.ts'

const POLL_MS = 2000
/** A file is often written in several steps. */
const SETTLE_MS = 50

interface ResolvConfSeams {
  readonly timers: Timers
  readonly environment: ResolverEnvironment
  readonly onEvent: (event: DnsEvent) => void
}

export class ResolvConfFile {
  readonly #path: string
  readonly #seams: ResolvConfSeams
  #current: ResolvConf
  #text: string | null = null
  #lastReason: string | null = null
  #stopWatch = (): void => undefined
  #retryTimer: Timer | null = null
  #readings = 0
  #closed = false

  constructor(path: string, seams: ResolvConfSeams) {
    this.#path = path
    this.#seams = seams
    this.#current = absentResolvConf(seams.environment)
    this.#readAtStart()
  }

  get current(): ResolvConf {
    return this.#current
  }

  /** Reads the file again whenever it changes. `onChange` runs after each change that is in force. */
  watch(onChange: () => void): void {
    if (!this.#current.reload) return
    const { timers, onEvent } = this.#seams
    const onBug = (error: unknown): void => onEvent({ kind: 'bug', error })
    const read = guarded(onBug, async () => {
      this.#retryTimer?.cancel()
      const couldRead = await this.#readAgain(onChange)
      if (!couldRead && !this.#closed) this.#retryTimer = timers.start(read, POLL_MS)
    })
    const options = { pollMs: POLL_MS, settleMs: SETTLE_MS, timers, onBug }
    this.#stopWatch = watchFileForChanges(this.#path, options, read)
    // The file may have changed between the first reading and the start of the watch.
    read()
  }

  close(): void {
    this.#closed = true
    this.#stopWatch()
    this.#retryTimer?.cancel()
  }

  #readAtStart(): void {
    try {
      this.#text = readFileSync(this.#path, 'utf8')
    } catch (error) {
      this.#reject(`it can't be read (${(error as NodeJS.ErrnoException).code})`)
      return
    }
    const conf = parseResolvConf(this.#text, this.#seams.environment)
    if ('invalid' in conf) this.#reject(conf.invalid)
    else this.#accept(conf)
  }

  /** @returns false where the file has to be read once more, because it can't be read now */
  async #readAgain(onChange: () => void): Promise<boolean> {
    const reading = ++this.#readings
    let text: string
    try {
      text = await readFile(this.#path, 'utf8')
    } catch (error) {
      if (this.#closed || reading !== this.#readings) return true
      this.#reject(`it can't be read (${(error as NodeJS.ErrnoException).code})`)
      return false
    }
    // A later reading may have ended earlier; then this text is old.
    if (this.#closed || reading !== this.#readings || text === this.#text) return true
    this.#text = text
    const conf = parseResolvConf(text, this.#seams.environment)
    if ('invalid' in conf) {
      this.#reject(conf.invalid)
      return true
    }
    this.#accept({ ...conf, nameservers: this.#nameserversOf(conf), search: this.#searchOf(conf) })
    onChange()
    return true
  }

  /**
   * A file without a nameserver line means this machine's own nameserver (glibc). When such a line disappears, the
   * file is half written or wrong, so the nameservers stay.
   */
  #nameserversOf(conf: ResolvConf): readonly string[] {
    if (conf.nameservers.length > 0 || this.#current.nameservers.length === 0) return conf.nameservers
    this.#reject('it has no nameserver line')
    return this.#current.nameservers
  }

  #searchOf(conf: ResolvConf): ResolvConf['search'] {
    if (conf.search.length > 0 || this.#current.search.length === 0) return conf.search
    this.#reject('it has no search domain')
    return this.#current.search
  }

  #accept(conf: ResolvConf): void {
    const before = new Set(this.#current.ignored)
    for (const option of conf.ignored)
      if (!before.has(option)) this.#seams.onEvent({ kind: 'option_ignored', option })
    this.#current = conf
    this.#lastReason = null
  }

  /** Reports the same reason only once in a row. */
  #reject(reason: string): void {
    if (reason === this.#lastReason) return
    this.#lastReason = reason
    this.#seams.onEvent({ kind: 'resolv_conf_kept', path: this.#path, reason })
  }
}
