import type { Log } from './ads-service.ts'
import type { ZonePolicy } from './catalog.ts'
import { readPolicy } from './policy.ts'

export interface PolicySourceOptions {
  readonly routesPath: string
  readonly bootstrapPath: string
  readonly routeHeader: string
  /** Text of a file. @throws where it can't be read */
  readFile(path: string): string
  readonly log: Pick<Log, 'warn' | 'error'>
}

/** Keeps the last good policy of Envoy's files: what can't be read changes nothing, as with Envoy itself. */
export class PolicySource {
  readonly #options: PolicySourceOptions
  #policy: ZonePolicy | undefined
  #text = ''
  #notCopied = ''

  constructor(options: PolicySourceOptions) {
    this.#options = options
  }

  get policy(): ZonePolicy | undefined {
    return this.#policy
  }

  /**
   * Reads the files again.
   * @param idHeader the header with the id, in lower case
   * @returns the policy if it is another one than before
   */
  reload(idHeader: string): ZonePolicy | undefined {
    const { routesPath, bootstrapPath, routeHeader, log } = this.#options
    const [routes, bootstrap] = [this.#read(routesPath), this.#read(bootstrapPath)]
    if (routes === undefined || bootstrap === undefined) return undefined
    const reading = readPolicy(
      { path: routesPath, text: routes },
      { path: bootstrapPath, text: bootstrap },
      { routeHeader, idHeader },
    )
    if (reading.kind === 'faults') {
      const after = this.#policy === undefined ? 'no zone is learned' : 'learned zones keep what they have'
      for (const fault of reading.faults) log.error({ fault }, `Envoy's files: ${after}`)
      return undefined
    }
    this.#nameNotCopied(reading.notCopied)
    const text = JSON.stringify(reading.policy)
    if (text === this.#text) return undefined
    this.#text = text
    this.#policy = reading.policy
    return reading.policy
  }

  #read(path: string): string | undefined {
    try {
      return this.#options.readFile(path)
    } catch (error) {
      this.#options.log.error({ file: path, error: (error as Error).message }, "can't read a file of Envoy's")
      return undefined
    }
  }

  #nameNotCopied(fields: readonly string[]): void {
    const text = fields.join('\n')
    if (text === this.#notCopied) return
    this.#notCopied = text
    if (fields.length > 0)
      this.#options.log.warn(
        { fields },
        'learned zones take over all of the cold route and cluster but these fields',
      )
  }
}
