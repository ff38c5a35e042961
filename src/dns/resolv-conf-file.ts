/**
 * The resolv.conf in force. Read again when it changes, by whatever means: a watch of its directory sees writes and
 * renames at once, and a look at the file itself every two seconds sees swapped symlinks and bind mounts. An empty,
 * broken or unreadable file never replaces a good one.
 */
import { type FSWatcher, readFileSync, watch } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { guarded } from '../guard.ts'
import type { DnsEvent } from './events.ts'
import {
  absentResolvConf,
  parseResolvConf,
  type ResolvConf,
  type ResolverEnvironment,
} from './resolv-conf.ts'
import type { Timer, Timers } from './timers.ts'

const POLL_MS = 2000
/** A file is often written in several steps. */
const SETTLE_MS = 50

export interface ResolvConfSeams {
  readonly timers: Timers
  readonly environment: ResolverEnvironment
  readonly onEvent: (event: DnsEvent) => void
}

export class ResolvConfFile {
  readonly #path: string
  readonly #seams: ResolvConfSeams
  #current: ResolvConf
  #text: string | null = null
  #signature: string | null = null
  #lastReason: string | null = null
  #watcher: FSWatcher | null = null
  #pollTimer: Timer | null = null
  #settleTimer: Timer | null = null
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

  /** `onChange` is called after each change that was taken over. */
  watch(onChange: () => void): void {
    if (!this.#current.reload) return
    const onBug = (error: unknown): void => this.#seams.onEvent({ kind: 'bug', error })
    const check = guarded(onBug, () => this.#readWhereChanged(onChange))
    try {
      this.#watcher = watch(dirname(this.#path), { persistent: false }, () => {
        this.#settleTimer?.cancel()
        this.#settleTimer = this.#seams.timers.start(check, SETTLE_MS)
      })
      this.#watcher.on('error', () => this.#watcher?.close())
    } catch {
      // No such directory, or no more watches to be had: the poll alone sees changes.
    }
    const poll = (): void => {
      check()
      this.#pollTimer = this.#seams.timers.start(poll, POLL_MS)
    }
    poll()
  }

  close(): void {
    this.#closed = true
    this.#watcher?.close()
    this.#pollTimer?.cancel()
    this.#settleTimer?.cancel()
  }

  #readAtStart(): void {
    try {
      this.#text = readFileSync(this.#path, 'utf8')
    } catch (error) {
      this.#kept(`it can't be read (${(error as NodeJS.ErrnoException).code})`)
      return
    }
    const conf = parseResolvConf(this.#text, this.#seams.environment)
    if ('invalid' in conf) this.#kept(conf.invalid)
    else this.#take(conf)
  }

  async #readWhereChanged(onChange: () => void): Promise<void> {
    let text: string
    try {
      const { dev, ino, size, mtimeMs, ctimeMs } = await stat(this.#path)
      const signature = [dev, ino, size, mtimeMs, ctimeMs].join(':')
      if (signature === this.#signature) return
      text = await readFile(this.#path, 'utf8')
      this.#signature = signature
    } catch (error) {
      if (!this.#closed) this.#kept(`it can't be read (${(error as NodeJS.ErrnoException).code})`)
      return
    }
    if (this.#closed || text === this.#text) return
    this.#text = text
    const conf = parseResolvConf(text, this.#seams.environment)
    if ('invalid' in conf) {
      this.#kept(conf.invalid)
      return
    }
    this.#take({ ...conf, nameservers: this.#nameserversOf(conf), search: this.#searchOf(conf) })
    onChange()
  }

  /** Without a nameserver line glibc asks this machine. Found at a change, that is a file half written, or a mistake. */
  #nameserversOf(conf: ResolvConf): readonly string[] {
    if (conf.nameservers.length > 0 || this.#current.nameservers.length === 0) return conf.nameservers
    this.#kept('it has no nameserver line')
    return this.#current.nameservers
  }

  #searchOf(conf: ResolvConf): ResolvConf['search'] {
    if (conf.search.length > 0 || this.#current.search.length === 0) return conf.search
    this.#kept('it has no search domain')
    return this.#current.search
  }

  #take(conf: ResolvConf): void {
    const before = new Set(this.#current.ignored)
    for (const option of conf.ignored)
      if (!before.has(option)) this.#seams.onEvent({ kind: 'option_ignored', option })
    this.#current = conf
    this.#lastReason = null
  }

  /** Each reason once in a row: the poll comes back every two seconds. */
  #kept(reason: string): void {
    if (reason === this.#lastReason) return
    this.#lastReason = reason
    this.#seams.onEvent({ kind: 'resolv_conf_kept', path: this.#path, reason })
  }
}
