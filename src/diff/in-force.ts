import { createHash } from 'node:crypto'
import type { Placing } from '../config/same.ts'
import type { PolicyFiles } from '../envoy-files/policy.ts'
import type { SaidEntry } from '../routing/said.ts'

/** The configuration in force of a running processor, as far as `diff` compares it. It holds no secret, as `listen` is left out. */
export interface InForce {
  /** Version of the program. */
  readonly version: string
  /** When the configuration was read, ISO 8601. */
  readonly loadedAt: string
  readonly config: Placing
  readonly search: string
  /** In their order, `address:port`. */
  readonly nameservers: readonly string[]
  /** Pins by command. */
  readonly pins: readonly SaidEntry[]
  /** The learned zones, `service/id`, the least recently used first. */
  readonly learned: readonly string[]
  /** SHA-256 of the operator's files for Envoy that are in force, in hex; null: unknown. */
  readonly envoyFiles: EnvoyFileHashes | null
}

export interface EnvoyFileHashes {
  readonly routes: string
  readonly clusters: string
}

export function hashesOf({ routes, clusters }: Pick<PolicyFiles, 'routes' | 'clusters'>): EnvoyFileHashes {
  return { routes: hashOf(routes.text), clusters: hashOf(clusters.text) }
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
