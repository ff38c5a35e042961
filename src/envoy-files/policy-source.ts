import type { ZonePolicy } from '../xds/catalog.ts'
import type { Log } from '../xds/envoy-stream.ts'
import {
  type ColdPath,
  type PolicyFiles,
  type PolicyReading,
  type PolicyRules,
  readPolicy,
} from './policy.ts'

export interface PolicySourceOptions {
  /** Envoy's files as they are now. @throws if one can't be read */
  read(): PolicyFiles
  /** Further checks of files that could be read. @throws if something is wrong */
  check?(files: PolicyFiles): void
  readonly log: Pick<Log, 'warn' | 'error'>
}

/** The meaning of the last files that could be read. */
export type Policy =
  | { readonly kind: 'policy'; readonly policy: ZonePolicy; readonly cold: ColdPath }
  /** Nothing may be learned: each reason is `file:line:column: field: why`. */
  | { readonly kind: 'cold only'; readonly reasons: readonly string[]; readonly cold: ColdPath }

/** Keeps the policy of the last files that could be read: as in Envoy, files that can't be read change nothing. */
export class PolicySource {
  readonly #options: PolicySourceOptions
  #current: Policy = {
    kind: 'cold only',
    reasons: ["Envoy's files could not be read yet"],
    cold: {},
  }
  #text = ''
  #files: PolicyFiles | undefined
  #faults: readonly string[] = []

  constructor(options: PolicySourceOptions) {
    this.#options = options
  }

  get current(): Policy {
    return this.#current
  }

  /** The files of `current`, or later ones with the same meaning; undefined: none could be read yet. */
  get files(): PolicyFiles | undefined {
    return this.#files
  }

  /** What is wrong with the files as they are now, `file:line:column: field: what`. */
  get faults(): readonly string[] {
    return this.#faults
  }

  /**
   * Reads the files again. While they have faults, the last sound files are read by the rules, so that new rules do not wait.
   * @returns the new policy, if its meaning has changed
   */
  reload(rules: PolicyRules): Policy | undefined {
    const saved = this.#read(this.#options.read, rules)
    this.#tellFaults(saved.reading.kind === 'faults' ? saved.reading.faults : [])
    const sound = this.#files
    const { files, reading } =
      saved.reading.kind === 'faults' && sound !== undefined ? this.#read(() => sound, rules) : saved
    if (reading.kind === 'faults') return undefined
    this.#files = files
    const text = JSON.stringify(reading)
    if (text === this.#text) return undefined
    this.#text = text
    this.#current = reading
    if (reading.kind === 'cold only')
      this.#options.log.warn(
        { reasons: reading.reasons },
        'no zone is learned: learned zones could not do everything that the cold path does',
      )
    return this.#current
  }

  #read(read: () => PolicyFiles, rules: PolicyRules): { files?: PolicyFiles; reading: PolicyReading } {
    try {
      const files = read()
      const reading = readPolicy(files, rules)
      if (reading.kind !== 'faults') this.#options.check?.(files)
      return { files, reading }
    } catch (error) {
      return { reading: { kind: 'faults', faults: [(error as Error).message] } }
    }
  }

  #tellFaults(faults: readonly string[]): void {
    if (JSON.stringify(faults) === JSON.stringify(this.#faults)) return
    this.#faults = faults
    const after = this.#text === '' ? 'no zone is learned' : 'learned zones keep their policy'
    for (const fault of faults.slice(0, FAULTS_LOGGED_MAX))
      this.#options.log.error({ fault }, `Envoy's files: ${after}`)
  }
}

/** One mistake can cause many faults. */
const FAULTS_LOGGED_MAX = 20
