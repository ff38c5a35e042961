import type { Logger } from '../log.ts'
import type { ConfigStatus } from '../status/status.ts'
import { ConfigError } from './faults.ts'
import { CONFIG_FILE, type LoadedConfig } from './load.ts'
import type { Config } from './schema.ts'
import { watchFileForChanges } from './watch-file.ts'

const POLL_MS = 250

export interface LiveConfigSeams {
  /** Reads and checks the configuration. @throws ConfigError */
  readonly load: (path: string | undefined) => LoadedConfig
  /**
   * Makes a configuration run in place of the one before. @throws Error where it can't, and the one before runs on
   */
  readonly apply: (config: Config) => void
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>
  /** Wall clock. */
  readonly date: () => Date
}

/**
 * The configuration in force, and its file. A change is validated first and runs only as a whole; while the file is at
 * fault, what was read before stays in force.
 */
export class LiveConfig {
  readonly #seams: LiveConfigSeams
  readonly #path: string | undefined
  readonly #started: Config
  #current: LoadedConfig
  #loadedAt: Date
  #faults: readonly string[] = []
  #accepted = 0
  #rejected = 0

  /** @param path as the operator named it */
  constructor(path: string | undefined, loaded: LoadedConfig, seams: LiveConfigSeams) {
    this.#path = path
    this.#started = loaded.config
    this.#current = loaded
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
      needsRestart: changedKeys(this.#started.listen, this.#current.config.listen, 'listen'),
      reloads: { accepted: this.#accepted, rejected: this.#rejected },
    }
  }

  /** @returns ends the watch */
  watch(): () => void {
    return watchFileForChanges(this.#path ?? CONFIG_FILE, POLL_MS, () => this.reload('changed'))
  }

  /** Reads the file again, and runs by it where it is sound. */
  reload(why: 'changed' | 'SIGHUP'): void {
    const { load, apply, log, date } = this.#seams
    const before = this.#current
    try {
      // A file that was there and is gone is half a save, or a mistake: it doesn't mean the defaults.
      const loaded = load(before.source === 'defaults' ? this.#path : before.source)
      const keys = changedKeys(before.config, loaded.config)
      if (keys.length > 0) apply(loaded.config)
      this.#current = loaded
      this.#loadedAt = date()
      this.#faults = []
      this.#accepted += 1
      log.info({ file: loaded.source, why, changed: keys }, 'configuration read, in force now')
    } catch (error) {
      this.#rejected += 1
      this.#faults = error instanceof ConfigError ? error.faults : [(error as Error).message]
      for (const fault of this.#faults)
        log.error({ fault, why }, 'configuration not taken, what was read before stays in force')
      return
    }
    const { needsRestart } = this.status()
    if (needsRestart.length > 0)
      log.warn({ keys: needsRestart }, 'these keys take effect when the processor is started again')
  }
}

/** Keys whose values differ, `dns.budgetMs`; lists and the services are told as one. */
export function changedKeys(before: object, after: object, prefix = ''): string[] {
  return Object.entries(after).flatMap(([name, value]) => {
    const old = (before as Record<string, unknown>)[name]
    const key = prefix === '' ? name : `${prefix}.${name}`
    if (JSON.stringify(old) === JSON.stringify(value)) return []
    const nested = isMap(value) && isMap(old) && key !== 'rules.services'
    return nested ? changedKeys(old, value, key) : [key]
  })
}

function isMap(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
