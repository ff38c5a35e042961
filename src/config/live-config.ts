import type { OnBug } from '../guard.ts'
import type { Logger } from '../log.ts'
import { type FileState, watchFileForChanges } from '../watch-file.ts'
import { type ConfigChange, changesOf } from './changes.ts'
import { ConfigError } from './faults.ts'
import { CONFIG_FILE, type LoadedConfig } from './load.ts'
import type { Config } from './schema.ts'

const POLL_MS = 250
/** Keys that come into force at once, but work fully only if Envoy's own files fit them. */
const GOES_WITH: Readonly<Record<string, string>> = {
  'dns.budgetMs':
    'message_timeout of ext_proc in envoy/listener.yaml: a request that waits longer than that gets 504',
}
/** An empty file is a fault, because an editor may just be writing it. */
const IS_EMPTY = 'is empty; for the defaults write {}'

/** The configuration in force, for status pages and metrics. */
export interface ConfigStatus {
  /** The file in force, or `defaults`. */
  readonly source: string
  /** When the configuration in force was read, ISO 8601. */
  readonly loadedAt: string
  /** Faults of the file as it is now, `file:line:column: key: ...`; the previous configuration stays active. */
  readonly faults: readonly string[]
  /** Keys whose new value waits for a restart. */
  readonly needsRestart: readonly string[]
  readonly reloads: { readonly accepted: number; readonly rejected: number }
}

export interface LiveConfigSeams {
  /** The state of the file before it was read for the first time. */
  readonly since: FileState
  /** Reads and checks the configuration. @throws ConfigError */
  readonly load: (path: string | undefined) => Promise<LoadedConfig>
  /**
   * Runs a configuration in place of the previous one. @throws Error if it can't; the previous one then runs on
   */
  readonly apply: (config: Config) => void
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>
  /** Called after each reading with the changes that are in force now, or with new faults. */
  readonly onRead?: (file: string, outcome: ConfigOutcome) => void
  readonly onBug: OnBug
  /** Wall clock. */
  readonly date: () => Date
}

/** The result of a reading: what has changed, or new faults because of which nothing has. Touching the file changes nothing. */
export type ConfigOutcome =
  | { readonly changes: readonly ConfigChange[] }
  | { readonly faults: readonly string[] }

/**
 * The configuration in force, and its file. A changed file comes into force only as a whole, after validation. While it has
 * faults, the previous configuration stays in force.
 */
export class LiveConfig {
  readonly #seams: LiveConfigSeams
  readonly #path: string | undefined
  readonly #started: Config
  /** The configuration in force. */
  #current: LoadedConfig
  /** The last sound file, including keys that wait for a restart. */
  #saved: Config
  #loadedAt: Date
  #faults: readonly string[] = []
  /** True if the file is sound, but could not be applied. */
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
   * @param others files on which a configuration depends. When one changes, a configuration that could not be applied is tried again
   * @returns a function that ends the watch, and drops the result of a reading in progress
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

  /** Reads the file again, and runs it if it is sound. Readings run one at a time. */
  reload(why: 'changed' | 'SIGHUP'): Promise<void> {
    if (this.#isClosed || this.#isWaiting) return this.#reading // The waiting reading will see this change.
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
      // A file that has disappeared is half a save or a mistake. It does not mean the defaults.
      const loaded = await load(before.source === 'defaults' ? this.#path : before.source)
      if (this.#isClosed) return
      if (loaded.isEmpty && !before.isEmpty)
        throw new ConfigError([{ file: loaded.source, line: 1, column: 1, key: '', message: IS_EMPTY }])
      const config = untilRestart(loaded.config, this.#started)
      const changes = changesOf(before.config, config)
      const keys = changes.map(({ key }) => key)
      const isNews = changesOf(this.#saved, loaded.config).length > 0 || this.#faults.length > 0
      if (keys.length > 0) apply(config)
      this.#current = { ...loaded, config }
      this.#saved = loaded.config
      this.#loadedAt = date()
      this.#faults = []
      this.#isRefused = false
      if (!isNews) {
        log.info({ file: loaded.source, why }, 'the configuration has not changed')
        this.#seams.onRead?.(loaded.source, { changes: [] })
        return
      }
      this.#accepted += 1
      log.info({ file: loaded.source, why, changed: keys }, 'a new configuration is in force')
      this.#seams.onRead?.(loaded.source, { changes })
      for (const key of keys)
        if (GOES_WITH[key] !== undefined)
          log.info(
            { key, goesWith: GOES_WITH[key] },
            'this key has a counterpart; "zonegate validate" says whether the two fit',
          )
    } catch (error) {
      if (this.#isClosed) return
      const known = JSON.stringify(this.#faults)
      this.#isRefused = !(error instanceof ConfigError)
      this.#faults = error instanceof ConfigError ? error.faults : [(error as Error).message]
      for (const fault of this.#faults)
        log.error({ fault, why }, 'the configuration has a fault, the previous one stays in force')
      const isNews = JSON.stringify(this.#faults) !== known
      if (isNews) this.#rejected += 1
      this.#seams.onRead?.(
        before.source === 'defaults' ? (this.#path ?? CONFIG_FILE) : before.source,
        isNews ? { faults: this.#faults } : { changes: [] },
      )
      return
    }
    const { needsRestart } = this.status()
    if (needsRestart.length > 0)
      log.warn({ keys: needsRestart }, 'these keys take effect when you restart the processor')
  }
}

/** The parts that the processor opens at its start. */
function restartPart({ listen, history }: Config): object {
  return { listen, history }
}

/** The configuration that can come into force without a restart. It keeps the other parts as they were at the start. */
function untilRestart(config: Config, { listen, history }: Config): Config {
  return { ...config, listen, history }
}

/** Keys whose values differ, such as `dns.budgetMs`. A list counts as one value. */
function changedKeys(before: object, after: object): string[] {
  return changesOf(before, after).map(({ key }) => key)
}
