import { readFileSync } from 'node:fs'
import { ENVOY_FOLDER, earlierZonesOfKeys, pathsIn, RUN_FOLDER, textBefore } from '../envoy-files/folder.ts'
import type { Generated } from '../envoy-files/generated.ts'
import type { NamesCluster } from '../envoy-files/names-cluster.ts'
import { type PolicyFiles, type PolicyRules, readPolicy } from '../envoy-files/policy.ts'
import { type Policy, PolicySource } from '../envoy-files/policy-source.ts'
import {
  type Addresses,
  namesClusterOf,
  placeOfRoutes,
  renderListener,
  renderRoutes,
} from '../envoy-files/render.ts'
import { unknownFieldsOfResources } from '../envoy-files/unknown-fields.ts'
import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import type { Logger } from '../log.ts'
import { type SourceFile, YamlFile } from '../xds/yaml-file.ts'

/** The operator's files, relative to the working directory. */
export const PATHS = pathsIn(ENVOY_FOLDER)
/** The files that take effect when they are saved. Envoy reads its bootstrap only when it starts. */
export const LIVE_FILES = [PATHS.routes, PATHS.clusters, PATHS.listener] as const

/** What the processor renders from the operator's files and the rules. */
interface RenderedFiles {
  readonly listener: string
  readonly routes: string
  /** Undefined if Envoy never resolves names itself. */
  readonly names: NamesCluster | undefined
}

/** Reads the operator's listener, routes and clusters, and renders what Envoy reads. */
export class OperatorFiles {
  readonly #source: PolicySource
  readonly #addresses: Addresses
  #generated: Generated | undefined
  #rendered: RenderedFiles | undefined
  #unknown: readonly string[] = []

  constructor(addresses: Addresses, log: Logger) {
    this.#addresses = addresses
    this.#source = new PolicySource({
      read: readLiveFiles,
      check: (files) => {
        if (this.#generated !== undefined) this.#rendered = this.#render(files, this.#generated)
        this.#unknown = unknownFieldsOfResources(new YamlFile(files.listener))
      },
      log,
    })
  }

  /**
   * Reads the files again. While they have faults, the last sound ones stay in use, also for new rules.
   * @returns the policy for learned zones if it has changed
   */
  read(generated: Generated): Policy | undefined {
    this.#generated = generated
    return this.#source.reload(policyRules(generated))
  }

  /**
   * Why these rules must wait: neither the saved files nor the last sound ones fit them. Undefined: they need not wait.
   * Before any files were sound, only other rules than now wait, and only where Envoy reads what this processor renders.
   */
  faultOf(generated: Generated): string | undefined {
    const { files: sound } = this.#source
    const now = this.#generated
    const isOther = now !== undefined && ofRules(now) !== ofRules(generated)
    if (sound === undefined && !(isOther && textBefore(RUN_FOLDER, 'listener') !== undefined))
      return undefined
    const faultBy = (read: () => PolicyFiles): string | undefined =>
      faultIn(() => {
        const files = read()
        const reading = readPolicy(files, policyRules(generated))
        if (reading.kind === 'faults') throw new Error(reading.faults[0])
        this.#render(files, generated)
      })
    const fault = faultBy(readLiveFiles)
    if (fault === undefined || sound === undefined) return fault
    return faultBy(() => sound) && fault
  }

  get policy(): Policy {
    return this.#source.current
  }

  /** The last sound files. Undefined until some were sound. */
  get sound(): PolicyFiles | undefined {
    return this.#source.files
  }

  /** Of the last sound files. */
  get rendered(): RenderedFiles | undefined {
    return this.#rendered
  }

  /** What is wrong with the saved files. */
  get faults(): readonly string[] {
    return this.#source.faults
  }

  /** Fields of the listener that Envoy's API doesn't have. */
  get unknown(): readonly string[] {
    return this.#unknown
  }

  #render({ listener, routes, clusters }: PolicyFiles, generated: Generated): RenderedFiles {
    const names = namesClusterOf(clusters, generated)
    return {
      listener: renderListener(listener, generated, this.#addresses),
      routes: renderRoutes(routes, generated, names, earlierZonesOfKeys(RUN_FOLDER)),
      names,
    }
  }
}

/** Without the nameservers of the fallback: a change of those need not wait. */
function ofRules({ fallback: _fallback, ...generated }: Generated): string {
  return JSON.stringify(generated)
}

function policyRules({ routes, asks, askSettings }: Generated): PolicyRules {
  return { routeHeader: ROUTE_HEADER, routes, asks, askSettings, placeOfRoutes }
}

/** @throws if the file can't be read */
export function fileAt(path: string): SourceFile {
  return { path, text: readFileSync(path, 'utf8') }
}

/** The cluster by which Envoy resolves names itself, or `otherwise` if the file of clusters has faults, which OperatorFiles reports. */
export function savedNames(generated: Generated, otherwise?: NamesCluster): NamesCluster | undefined {
  try {
    return namesClusterOf(fileAt(PATHS.clusters), generated)
  } catch {
    return otherwise
  }
}

function readLiveFiles(): PolicyFiles {
  return { routes: fileAt(PATHS.routes), clusters: fileAt(PATHS.clusters), listener: fileAt(PATHS.listener) }
}

function faultIn(run: () => unknown): string | undefined {
  try {
    run()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}
