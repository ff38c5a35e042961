import { status } from '@grpc/grpc-js'
import { aggregatedDiscovery } from '../grpc/protos.ts'
import { createLineLimit, type LineLimit } from '../line-limit.ts'
import type { Timer } from '../timers.ts'
import { Turns } from '../turns.ts'
import { ENVOYS_MAX } from './envoy-client.ts'
import {
  type AdsCall,
  type AdsOptions,
  type EnvoyListeners,
  type EnvoyStatus,
  EnvoyStream,
  type EnvoyWithZone,
} from './envoy-stream.ts'
import { wholeIfSmall } from './inbox.ts'
import type { RouteConfiguration } from './messages.ts'
import type { Resource, ZoneRef } from './resource.ts'
import type { Received } from './subscription.ts'

const { DeltaAggregatedResources } = aggregatedDiscovery

/** The method's definition for a server that encodes responses itself, and reads large requests in parts. */
export const adsDefinition = {
  DeltaAggregatedResources: {
    ...DeltaAggregatedResources,
    requestDeserialize: wholeIfSmall(DeltaAggregatedResources.requestDeserialize),
    responseSerialize: (encoded: Buffer): Buffer => encoded,
  },
}

/** How long to wait for further Envoys once one has accepted: an Envoy that hangs must not hold up a policy. */
const PROOF_WITHIN_MS = 10_000

/** The aggregated discovery service: a stream for each Envoy, each with its own state. */
export class AdsService {
  readonly #options: AdsOptions
  readonly #streams = new Set<EnvoyStream>()
  #isClosed = false
  readonly #limit: LineLimit
  readonly #turns: Turns
  #proof: { readonly done: (fault: string | undefined) => void; acked: boolean; timer?: Timer } | undefined

  constructor(options: AdsOptions) {
    this.#options = options
    this.#limit = createLineLimit(() => options.timers.now())
    this.#turns = new Turns(options.timers)
  }

  /** The gRPC method DeltaAggregatedResources. */
  readonly handle = (call: AdsCall): void => {
    if (this.#isClosed) {
      call.emit('error', { code: status.UNAVAILABLE, details: 'shutting down' })
      return
    }
    if (this.#streams.size >= ENVOYS_MAX) {
      const due = this.#limit('too many')
      if (due !== null)
        this.#options.log.warn({ envoysMax: ENVOYS_MAX, ...due }, 'too many Envoys, one was refused')
      call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: 'too many Envoys' })
      return
    }
    const stream = new EnvoyStream(call, this.#options, this.#limit, this.#turns, {
      onClose: () => {
        this.#streams.delete(stream)
        this.#endProofIfAccepted()
      },
      onAnswer: (received) => this.#answered(received),
    })
    this.#streams.add(stream)
  }

  /** The inline headers that all connected Envoys have; undefined if none is connected. */
  inlineHeaders(): ReadonlySet<string> | undefined {
    const all = [...this.#streams].flatMap(({ inlineHeaders: names }) => (names === undefined ? [] : [names]))
    const [first, ...others] = all
    return first && new Set([...first].filter((name) => others.every((names) => names.has(name))))
  }

  /** What each Envoy has of a zone. */
  zoneOnEnvoys(zone: ZoneRef): EnvoyWithZone[] {
    return [...this.#streams].map((stream) => stream.withZone(zone))
  }

  /** The listeners of each Envoy that has said what it is. */
  listeners(): EnvoyListeners[] {
    return [...this.#streams].flatMap((stream) => stream.listeners() ?? [])
  }

  status(): EnvoyStatus[] {
    return [...this.#streams].map((stream) => stream.status())
  }

  /**
   * Asks all connected Envoys, or the first that connects, whether they accept a route configuration and the cold clusters. One
   * refusal is enough. An Envoy that does not answer is ignored after some seconds. A later proof replaces this one.
   */
  prove(configuration: RouteConfiguration, done: (fault: string | undefined) => void): void {
    this.cancelProof()
    this.#proof = { done, acked: false }
    this.#options.catalog.setProof(configuration)
  }

  cancelProof(): void {
    this.#proof?.timer?.cancel()
    this.#proof = undefined
    this.#options.catalog.setProof(undefined)
  }

  #answered(received: Received<Resource>): void {
    const { proof, coldClusters } = this.#options.catalog
    if (this.#proof === undefined || received.kind === 'request') return
    const isProof = (resource: Resource): boolean => proof.get(resource.name) === resource
    if (received.kind === 'ack') {
      if (received.updated.some(isProof)) this.#proof.acked = true
      this.#endProofIfAccepted()
      return
    }
    const refused = received.atFault?.resource
    if (refused !== undefined && (isProof(refused) || refused === coldClusters.get(refused.name)))
      this.#proved(received.message)
  }

  /** Ends the proof if all Envoys have accepted it. */
  #endProofIfAccepted(): void {
    const proof = this.#proof
    if (proof === undefined || !proof.acked) return
    proof.timer ??= this.#options.timers.start(() => this.#proved(undefined), PROOF_WITHIN_MS)
    if ([...this.#streams].every((stream) => stream.accepts)) this.#proved(undefined)
  }

  #proved(fault: string | undefined): void {
    const proof = this.#proof
    this.cancelProof()
    proof?.done(fault && wordsOf(fault))
  }

  /** Ends all streams: the Envoys keep what they have, and connect again. */
  close(): void {
    this.#isClosed = true
    this.cancelProof()
    for (const stream of [...this.#streams]) stream.end()
    this.#turns.close()
  }
}

/** The reason within an Envoy's error text, which may also contain the whole resource. */
function wordsOf(text: string): string {
  const [, why] = /((?:Proto constraint validation failed \(|Unable to |Error ).*)/s.exec(text) ?? []
  return (why ?? text.slice(-WORDS_LENGTH_MAX)).slice(0, WORDS_LENGTH_MAX).replaceAll(/\s+/g, ' ').trim()
}

const WORDS_LENGTH_MAX = 400
