import type { Generated } from '../envoy-files/generated.ts'
import type { NamesCluster } from '../envoy-files/names-cluster.ts'
import { type Addresses, renderBootstrap } from '../envoy-files/render.ts'
import { BOOTSTRAP, unknownFields } from '../envoy-files/unknown-fields.ts'
import type { Logger } from '../log.ts'
import { YamlFile } from '../xds/yaml-file.ts'
import { fileAt, PATHS, savedNames } from './operator-files.ts'

/** The operator's `envoy/envoy.yaml`. Envoy reads it only when it starts. */
export class BootstrapFile {
  readonly #addresses: Addresses
  readonly #log: Pick<Logger, 'warn' | 'error'>
  #fault: string | undefined
  #unknown: readonly string[] = []
  /** What the running Envoys started with. The processor assumes it is the first version that it reads. */
  #started: string | undefined
  #saved: string | undefined

  constructor(addresses: Addresses, log: Pick<Logger, 'warn' | 'error'>) {
    this.#addresses = addresses
    this.#log = log
  }

  /** True if the file has changed since Envoy started. */
  get needsRestart(): boolean {
    return this.#saved !== this.#started
  }

  /** Why the file can't be rendered. */
  get fault(): string | undefined {
    return this.#fault
  }

  /** Fields that Envoy's API doesn't have. Envoy does not start with such a field. */
  get unknown(): readonly string[] {
    return this.#unknown
  }

  /** An Envoy has started with the file as it is now. */
  envoyStarted(): void {
    this.#read()
    this.#started = this.#saved
  }

  /**
   * Reads the file again.
   * @param names the cluster that Envoy has now, if the file of clusters has faults
   * @returns what Envoy reads at its next start; undefined if the file can't be used
   */
  render(generated: Generated, names: NamesCluster | undefined): string | undefined {
    const before = this.#saved
    const fault = this.#fault
    this.#read()
    this.#started ??= this.#saved
    if (this.#saved !== before && this.needsRestart)
      this.#log.warn({ file: PATHS.bootstrap }, 'this file has changed: restart Envoy for it to take effect')
    if (this.#fault !== undefined) {
      if (this.#fault !== fault)
        this.#log.error(
          { fault: this.#fault },
          'this file has a fault: Envoy would start with its previous version',
        )
      return undefined
    }
    const source = fileAt(PATHS.bootstrap)
    this.#unknown = unknownFields(new YamlFile(source), BOOTSTRAP)
    return renderBootstrap(source, generated, this.#addresses, savedNames(generated, names))
  }

  /** A missing file does not count as changed: an editor may be saving it. */
  #read(): void {
    try {
      // The comparison leaves out the rules' inline headers: Envoy reports its own, so new ones need no restart.
      this.#saved = renderBootstrap(fileAt(PATHS.bootstrap), { inlineHeaders: [] }, this.#addresses)
      this.#fault = undefined
    } catch (error) {
      this.#fault = (error as Error).message
    }
  }
}
