import type { OnBug } from '../guard.ts'
import type { Logger } from '../log.ts'
import type { ConfigStatus } from '../status/status.ts'
import { type FileState, watchFileForChanges } from '../watch-file.ts'
import { type ConfigChange, changesOf } from './changes.ts'
import { ConfigError } from './faults.ts'
import { CONFIG_FILE, type LoadedConfig } from './load.ts'
import type { Config } from './schema.ts'

const POLL_MS = 250
/** Keys that are in force at once, and yet do what they say only where Envoy's own files say the same. */
const GOES_WITH: Readonly<Record<string, string>> = {
  'dns.budgetMs':
    'message_timeout of ext_proc in envoy/listener.yaml, live: who waits for longer than that gets 504',
}
/** So is one that is being written. */
const IS_EMPTY = 'is empty; for the defaults write {}'

export interface LiveConfigSeams {
  /** The state of the file before it was read for the first time. */
  readonly since: FileState
  /** Reads and checks the configuration. @throws ConfigError */
  readonly load: (path: string | undefined) => Promise<LoadedConfig>
  /**
   * Makes a configuration run in place of the one before. @throws Error where it can't, and the one before runs on
   */
  readonly apply: (config: Config) => void
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>
  /** Told of each change that is in force now, and of each that was not taken. */
  readonly onRead?: (file: string, outcome: ConfigOutcome) => void
  readonly onBug: OnBug
  /** Wall clock. */
  readonly date: () => Date
}

/** What came of a reading: what is another now, or why nothing is. */
export type ConfigOutcome =
  | { readonly changes: readonly ConfigChange[] }
  | { readonly faults: readonly string[] }

/**
 * The configuration in force, and its file. A change is validated first and runs only as a whole; while the file is at
 * fault, what was read before stays in force.
 */
export class LiveConfig {
  readonly #seams: LiveConfigSeams
  readonly #path: string | undefined
  readonly #started: Config
  /** In force. */
  #current: LoadedConfig
  /** As in the file that was taken over last. */
  #saved: Config
  #loadedAt: Date
  #faults: readonly string[] = []
  /** The file is sound, and could not be applied. */
  #isRefused = false
  #accepted = 0
  #rejected = 0
  /** The reading under way, or the last one. */
  #reading: Promise<void> = Promise.resolve()
  #isWaiting = false
  #isClosed = false

  /** @param path as the operator named it */
  constructor(path: string | undefined, loaded: LoadedConfig, seams: LiveConfigSeams) {
    this.#path = path
    this.#started = loaded.config
    this.#current = loaded
    this.#saved = loaded.config
    this.#seams = seams
    this.#loadedAt = seams.date()
  }

  get config(): Config {
    return this.#current.config
  }

  status(): ConfigStatus {
    return {
      source: this.#current.source,
      loadedAt: this.#loadedAt.toISOString(),
      faults: this.#faults,
      needsRestart: changedKeys(restartPart(this.#started), restartPart(this.#saved)),
      reloads: { accepted: this.#accepted, rejected: this.#rejected },
    }
  }

  /**
   * Reads the file again when it changes.
   * @param others files that a configuration depends on: a change of one tries again what could not be applied
   * @returns ends the watch; what is being read then is not taken over any more
   */
  watch(others: readonly string[] = []): () => void {
    const { since, onBug } = this.#seams
    const changed = (): Promise<void> => this.reload('changed')
    const options = { pollMs: POLL_MS, settleMs: POLL_MS, onBug }
    const otherChanged = (): Promise<void> | void => (this.#isRefused ? changed() : undefined)
    const stops = [
      watchFileForChanges(this.#path ?? CONFIG_FILE, { ...options, since }, changed),
      ...others.map((file) => watchFileForChanges(file, options, otherChanged)),
    ]
    return () => {
      this.#isClosed = true
      for (const stop of stops) stop()
    }
  }

  /** Reads the file again, one reading at a time, and runs by it where it is sound. */
  reload(why: 'changed' | 'SIGHUP'): Promise<void> {
    if (this.#isClosed || this.#isWaiting) return this.#reading // one that waits will see this change, too
    this.#isWaiting = true
    this.#reading = this.#reading.then(() => {
      this.#isWaiting = false
      return this.#reload(why)
    })
    return this.#reading
  }

  async #reload(why: 'changed' | 'SIGHUP'): Promise<void> {
    const { load, apply, log, date } = this.#seams
    const before = this.#current
    try {
      // A file that was there and is gone is half a save, or a mistake: it doesn't mean the defaults.
      const loaded = await load(before.source === 'defaults' ? this.#path : before.source)
      if (this.#isClosed) return
      if (loaded.isEmpty && !before.isEmpty)
        throw new ConfigError([{ file: loaded.source, line: 1, column: 1, key: '', message: IS_EMPTY }])
      const config = untilRestart(loaded.config, this.#started)
      const changes = changesOf(before.config, config)
      const keys = changes.map(({ key }) => key)
      if (keys.length > 0) apply(config)
      this.#current = { ...loaded, config }
      this.#saved = loaded.config
      this.#loadedAt = date()
      this.#faults = []
      this.#isRefused = false
      this.#accepted += 1
      log.info({ file: loaded.source, why, changed: keys }, 'configuration read, in force now')
      this.#seams.onRead?.(loaded.source, { changes })
      for (const key of keys)
        if (GOES_WITH[key] !== undefined)
          log.info(
            { key, goesWith: GOES_WITH[key] },
            'this key has a counterpart; "zonegate validate" says whether they fit',
          )
    } catch (error) {
      if (this.#isClosed) return
      this.#rejected += 1
      this.#isRefused = !(error instanceof ConfigError)
      this.#faults = error instanceof ConfigError ? error.faults : [(error as Error).message]
      for (const fault of this.#faults)
        log.error({ fault, why }, 'configuration not taken, what was read before stays in force')
      this.#seams.onRead?.(before.source === 'defaults' ? (this.#path ?? CONFIG_FILE) : before.source, {
        faults: this.#faults,
      })
      return
    }
    const { needsRestart } = this.status()
    if (needsRestart.length > 0)
      log.warn({ keys: needsRestart }, 'these keys take effect when the processor is started again')
  }
}

/** What is opened at the start. */
function restartPart({ listen, history }: Config): object {
  return { listen, history }
}

/** The configuration that may be in force now: what needs a restart is as it was at the start. */
function untilRestart(config: Config, { listen, history }: Config): Config {
  return { ...config, listen, history }
}

/** Keys whose values differ, `dns.budgetMs`; lists are told as one. */
export function changedKeys(before: object, after: object): string[] {
  return changesOf(before, after).map(({ key }) => key)
}
