import type { ServerDuplexStream } from '@grpc/grpc-js'
import { status } from '@grpc/grpc-js'
import { aggregatedDiscovery, type DeltaDiscoveryRequest, type Node } from '../grpc/protos.ts'
import { createLineLimit, type LineLimit } from '../line-limit.ts'
import type { Catalog } from './catalog.ts'
import { encodeDeltaResponse } from './delta-response.ts'
import { nodeName, nodeVersion } from './node.ts'
import { ENVOYS_MAX, faultOfRequest } from './request-limits.ts'
import { type Kind, kindOf } from './resource.ts'
import { Rollout, type RolloutEvent, type RolloutOptions } from './rollout.ts'
import type { Timer, Timers } from './timers.ts'

export interface Log {
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
  error(fields: object, text: string): void
}

export interface AdsOptions extends RolloutOptions {
  readonly catalog: Catalog
  readonly timers: Timers
  readonly log: Log
  readonly isTestedVersion: (version: string) => boolean
  /** An Envoy has zones that the catalogue doesn't know. Called before anything is answered. */
  onZonesFound(envoy: string, zones: RolloutEvent['found']): void
}

/** One Envoy's stream, for status pages and metrics. */
export interface EnvoyStatus {
  /** `node.id` of its bootstrap; several Envoys may have the same. */
  readonly envoy: string
  /** What it says of itself, `1.40.0`; null where it says nothing. */
  readonly version: string | null
  /** False where it is known to be another Envoy than the one that this release is tested with. */
  readonly testedVersion: boolean
  readonly connectedMs: number
  /** By kind: how many resources it has acknowledged, how many versions it refuses, what it answered so far. */
  readonly resources: Readonly<Record<Kind, ResourceStatus>>
  /** Envoy's text of the last NACK. */
  readonly lastRejection: string | undefined
}

export interface ResourceStatus {
  readonly held: number
  readonly rejected: number
  readonly acks: number
  readonly nacks: number
  /** From the last response to its answer. */
  readonly lastAckMs: number | undefined
}

type Call = ServerDuplexStream<DeltaDiscoveryRequest, Buffer>

/** Envoy's text about 2,000 resources can be long. */
const REJECTION_LENGTH_MAX = 2_000

/** Of a type URL that nobody here knows. */
const TYPE_LENGTH_MAX = 200

/** The method's definition for a server that encodes responses itself. */
export const adsDefinition = {
  DeltaAggregatedResources: {
    ...aggregatedDiscovery.DeltaAggregatedResources,
    responseSerialize: (encoded: Buffer): Buffer => encoded,
  },
}

/** The aggregated discovery service: a stream for each Envoy, each with its own state. */
export class AdsService {
  readonly #options: AdsOptions
  readonly #streams = new Set<AdsStream>()
  readonly #limit: LineLimit

  constructor(options: AdsOptions) {
    this.#options = options
    this.#limit = createLineLimit(() => options.timers.now())
  }

  /** The gRPC method DeltaAggregatedResources. */
  readonly handle = (call: Call): void => {
    if (this.#streams.size >= ENVOYS_MAX) {
      const due = this.#limit('too many')
      if (due !== null)
        this.#options.log.warn({ envoysMax: ENVOYS_MAX, ...due }, 'too many Envoys, one was refused')
      call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: 'too many Envoys' })
      return
    }
    const stream = new AdsStream(call, this.#options, this.#limit, () => this.#streams.delete(stream))
    this.#streams.add(stream)
  }

  status(): EnvoyStatus[] {
    return [...this.#streams].map((stream) => stream.status())
  }

  /** Ends all streams: the Envoys keep what they have, and connect again. */
  close(): void {
    for (const stream of [...this.#streams]) stream.end()
  }
}

/** Joins one gRPC stream, the catalogue and time to a Rollout, which decides everything. */
class AdsStream {
  readonly #call: Call
  readonly #options: AdsOptions
  readonly #limit: LineLimit
  readonly #rollout: Rollout
  readonly #connectedAtMs: number
  readonly #counts = perKind(() => ({
    acks: 0,
    nacks: 0,
    sentAtMs: 0,
    lastAckMs: undefined as number | undefined,
  }))
  readonly #release: () => void
  #envoy = ''
  #version: string | null = null
  #testedVersion = true
  #lastRejection: string | undefined
  #timer: Timer | undefined
  #flushScheduled = false
  #open = true

  constructor(call: Call, options: AdsOptions, limit: LineLimit, onClose: () => void) {
    this.#call = call
    this.#options = options
    this.#limit = limit
    this.#rollout = new Rollout(options.catalog, options)
    this.#connectedAtMs = options.timers.now()
    const unsubscribe = options.catalog.onChange((kind, name) => {
      this.#guard(() => this.#rollout.mark(kind, name))
      this.#scheduleFlush()
    })
    this.#release = () => {
      this.#open = false
      unsubscribe()
      this.#timer?.cancel()
      onClose()
    }
    call.on('data', (request: DeltaDiscoveryRequest) => this.#guard(() => this.#receive(request)))
    call.on('end', () => this.end())
    for (const event of ['cancelled', 'error', 'close'] as const) call.on(event, () => this.#close(event))
  }

  end(): void {
    if (!this.#open) return
    this.#close('end')
    this.#call.end()
  }

  status(): EnvoyStatus {
    return {
      envoy: this.#envoy,
      version: this.#version,
      testedVersion: this.#testedVersion,
      connectedMs: this.#options.timers.now() - this.#connectedAtMs,
      resources: perKind((kind) => {
        const { held, rejectedCount } = this.#rollout.subscription(kind)
        const { acks, nacks, lastAckMs } = this.#counts[kind]
        return { held: held.size, rejected: rejectedCount, acks, nacks, lastAckMs }
      }),
      lastRejection: this.#lastRejection,
    }
  }

  #receive(request: DeltaDiscoveryRequest): void {
    if (!this.#open) return
    const { timers } = this.#options
    // "Basic Protocol Overview": only the first request is sure to say who asks.
    if (this.#envoy === '') {
      this.#introduce(request.node)
    }
    const kind = kindOf(request.type_url)
    const named = kind === undefined ? 0 : this.#rollout.subscription(kind).namesCount
    const fault = faultOfRequest(request, named)
    if (fault !== null) {
      this.#log('warn', { kind, fault }, 'an Envoy asked for what no Envoy can need')
      this.#fail(status.RESOURCE_EXHAUSTED, fault)
      return
    }
    const event = this.#rollout.receive(request, timers.now())
    if (event === undefined) {
      const type = request.type_url?.slice(0, TYPE_LENGTH_MAX)
      this.#log('warn', { type }, 'asked for a type of resource that is not served here')
      return
    }
    this.#note(event)
    if (event.found.length > 0) this.#options.onZonesFound(this.#envoy, event.found)
    this.#flush()
  }

  #introduce(node: Node | undefined): void {
    this.#envoy = nodeName(node)
    this.#version = nodeVersion(node)
    this.#testedVersion = this.#version === null || this.#options.isTestedVersion(this.#version)
    this.#log('info', { version: this.#version }, 'an Envoy has connected')
    if (!this.#testedVersion)
      this.#log('warn', { version: this.#version }, 'this release is not tested with that version of Envoy')
  }

  #note({ kind, received }: RolloutEvent): void {
    if (received.kind === 'request') return
    const count = this.#counts[kind]
    count.lastAckMs = this.#options.timers.now() - count.sentAtMs
    if (received.kind === 'ack') {
      count.acks += 1
      return
    }
    count.nacks += 1
    this.#lastRejection = received.message.slice(0, REJECTION_LENGTH_MAX)
    this.#options.log.warn(
      {
        envoy: this.#envoy,
        kind,
        resources: received.updated.length,
        first: received.updated[0]?.name,
        error: this.#lastRejection,
      },
      'an Envoy has refused resources; it keeps what it had, and these versions are not sent to it again',
    )
  }

  /** Changes of one turn of the event loop leave together. */
  #scheduleFlush(): void {
    if (this.#flushScheduled || !this.#open) return
    this.#flushScheduled = true
    this.#options.timers.start(() => {
      this.#flushScheduled = false
      this.#guard(() => this.#flush())
    }, 0)
  }

  /** Never more than one response of each kind is under way, so a slow Envoy's buffer is bounded. */
  #flush(): void {
    if (!this.#open) return
    const { timers } = this.#options
    const nowMs = timers.now()
    for (const response of this.#rollout.next(nowMs)) {
      const kind = kindOf(response.typeUrl)
      if (kind !== undefined) this.#counts[kind].sentAtMs = nowMs
      this.#call.write(encodeDeltaResponse(response, nowMs))
    }
    this.#timer?.cancel()
    const wakeAtMs = this.#rollout.wakeAtMs()
    this.#timer =
      wakeAtMs === undefined
        ? undefined
        : timers.start(() => this.#guard(() => this.#flush()), Math.max(0, wakeAtMs - nowMs))
  }

  #close(reason: string): void {
    if (!this.#open) return
    this.#release()
    if (this.#envoy !== '') this.#log('info', { reason }, 'an Envoy has disconnected')
  }

  /** Each text is a kind of its own: a client that comes and goes, or asks for nonsense, fills no log. */
  #log(level: 'info' | 'warn', fields: object, text: string): void {
    const due = this.#limit(text)
    if (due !== null) this.#options.log[level]({ envoy: this.#envoy, ...fields, ...due }, text)
  }

  /** A fault of ours costs one stream: the Envoy keeps what it has, and connects again. */
  #guard(run: () => void): void {
    try {
      run()
    } catch (error) {
      this.#options.log.error({ envoy: this.#envoy, err: error }, 'the stream of an Envoy failed')
      this.#fail(status.INTERNAL, 'internal error')
    }
  }

  #fail(code: status, details: string): void {
    this.#close('error')
    // Not `destroy`, which sends nothing: the Envoy would go on waiting.
    this.#call.emit('error', { code, details })
  }
}

function perKind<Value>(value: (kind: Kind) => Value): Record<Kind, Value> {
  return { cluster: value('cluster'), endpoints: value('endpoints'), virtualHost: value('virtualHost') }
}
