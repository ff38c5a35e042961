import { type ServerDuplexStream, status } from '@grpc/grpc-js'
import type { DeltaDiscoveryRequest, Node } from '../grpc/protos.ts'
import type { OnBug } from '../guard.ts'
import type { LineLimit } from '../line-limit.ts'
import type { Timer, Timers } from '../timers.ts'
import type { Turns } from '../turns.ts'
import type { Catalog } from './catalog.ts'
import { encodeDeltaResponse } from './delta-response.ts'
import {
  FIRST_REQUEST_WITHIN_MS,
  faultOfRequest,
  inlineHeaders,
  nodeName,
  nodeVersion,
} from './envoy-client.ts'
import { Inbox } from './inbox.ts'
import { ListenerSubscriptions } from './listener-subscriptions.ts'
import { RequestFault, requestParts } from './request-parts.ts'
import { KINDS, type Kind, kindOf, type Resource, type ZoneRef } from './resource.ts'
import { Rollout, type RolloutEvent, type ZoneOnEnvoy } from './rollout.ts'
import type { Received } from './subscription.ts'
import { MalformedMessage } from './wire.ts'

export interface Log {
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
  error(fields: object, text: string): void
}

/** What the streams of Envoys report. */
export interface EnvoyEvents {
  /**
   * An Envoy has zones that the catalogue did not know, from an earlier processor. The catalogue has adopted them. Called once for
   * each part of its request, before the answer.
   */
  onZonesFound(envoy: string, zones: RolloutEvent['found']): void
  /** An Envoy without any resources has connected: it has just started. */
  onStarted?(): void
  /** An Envoy has sent its name, version and inline headers. */
  onIntroduced?(): void
  /** An Envoy has answered a push. */
  onAnswer(kind: Kind, answer: 'acks' | 'nacks'): void
  /** An Envoy connected, disconnected or refused something. */
  onEnvoy?(event: EnvoyEvent): void
}

export interface AdsOptions extends EnvoyEvents {
  readonly catalog: Catalog
  readonly timers: Timers
  readonly log: Log
  /** Whether this release is tested with an Envoy of that version. */
  readonly isTestedVersion: (version: string) => boolean
  /** Hears of an exception, which is a bug. It ends one stream and no other. */
  readonly onBug: OnBug
}

export type EnvoyEvent =
  | { readonly kind: 'envoy_connected'; readonly envoy: string; readonly version: string | null }
  | { readonly kind: 'envoy_disconnected'; readonly envoy: string; readonly why: string }
  /** Once for each resource at fault. `name` is absent while it is not known which of several it is. */
  | {
      readonly kind: 'nack'
      readonly envoy: string
      readonly resource: Kind
      readonly name?: string
      readonly error: string
    }

/** One Envoy's stream, for status pages and metrics. */
export interface EnvoyStatus {
  /** `node.id` of its bootstrap; several Envoys may have the same. */
  readonly envoy: string
  /** The version that it reports, such as `1.40.0`; null if it reports none. */
  readonly version: string | null
  /** False if this release is tested with another version of Envoy. */
  readonly testedVersion: boolean
  readonly connectedMs: number
  /** For each kind: how many resources it has and refuses, and how often it has acknowledged and refused. */
  readonly resources: Readonly<Record<Kind, ResourceStatus>>
  /** Envoy's error text of the last NACK. */
  readonly lastRejection: string | undefined
}

/** What one Envoy has of a zone. */
export interface EnvoyWithZone {
  readonly envoy: string
  readonly state: ZoneOnEnvoy
  /** Its error text of the last NACK, if it refuses the zone. */
  readonly rejection?: string | undefined
}

/** The listeners that one Envoy uses, by the names of `renderListener`. */
export interface EnvoyListeners {
  readonly envoy: string
  readonly connectedMs: number
  readonly listeners: ReadonlySet<string>
}

export interface ResourceStatus {
  readonly held: number
  readonly rejected: number
  readonly acks: number
  readonly nacks: number
  /** Time from the last response to its answer. */
  readonly lastAckMs: number | undefined
}

/** A large request stays undecoded, to be read in parts. */
export type AdsCall = ServerDuplexStream<DeltaDiscoveryRequest | Buffer, Buffer>

/** A text of Envoy about many resources can be long. */
const REJECTION_LENGTH_MAX = 2_000

/** Characters of an unknown type URL in the log. */
const TYPE_LENGTH_MAX = 200

/** One Envoy's stream. Connects gRPC, the catalogue and timers with a Rollout, which makes all decisions. */
export class EnvoyStream {
  readonly #call: AdsCall
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
  readonly #onAnswer: (received: Received<Resource>) => void
  #envoy = ''
  #version: string | null = null
  #testedVersion = true
  #inlineHeaders: ReadonlySet<string> | undefined
  readonly #listeners = new ListenerSubscriptions()
  #lastRejection: string | undefined
  #timer: Timer | undefined
  readonly #turns: Turns
  readonly #task = (): boolean => this.#guard(() => this.#work()) ?? false
  readonly #inbox: Inbox<DeltaDiscoveryRequest>
  /** What the current request means, as its first part says. */
  #event: RolloutEvent | undefined
  #foundCount = 0
  #open = true

  constructor(
    call: AdsCall,
    options: AdsOptions,
    limit: LineLimit,
    turns: Turns,
    { onClose, onAnswer }: { onClose(): void; onAnswer(received: Received<Resource>): void },
  ) {
    this.#onAnswer = onAnswer
    this.#call = call
    this.#options = options
    this.#limit = limit
    this.#turns = turns
    this.#rollout = new Rollout(options.catalog)
    this.#inbox = new Inbox(call, requestParts)
    this.#connectedAtMs = options.timers.now()
    const unsubscribe = options.catalog.onChange((change) => {
      this.#guard(() => change(this.#rollout))
      // Changes made in one turn of the event loop are sent together.
      if (this.#open) turns.later(this.#task)
    })
    const silence = options.timers.start(
      () => this.#fail(status.DEADLINE_EXCEEDED, 'no request'),
      FIRST_REQUEST_WITHIN_MS,
    )
    this.#release = () => {
      this.#open = false
      silence.cancel()
      unsubscribe()
      this.#timer?.cancel()
      turns.drop(this.#task)
      onClose()
    }
    call.on('data', (request: DeltaDiscoveryRequest | Buffer) => {
      if (!this.#open) return
      silence.cancel()
      this.#inbox.add(request)
      turns.take(this.#task)
    })
    call.on('end', () => this.#guard(() => this.end()))
    for (const event of ['cancelled', 'error', 'close'] as const)
      call.on(event, () => this.#guard(() => this.#close(event)))
  }

  end(): void {
    if (!this.#open) return
    this.#close('end')
    this.#call.end()
  }

  get accepts(): boolean {
    return this.#rollout.accepts
  }

  withZone(zone: ZoneRef): EnvoyWithZone {
    const state = this.#rollout.stateOf(zone)
    return { envoy: this.#envoy, state, ...(state === 'refused' && { rejection: this.#lastRejection }) }
  }

  /** Undefined until the Envoy has said what it is. */
  get inlineHeaders(): ReadonlySet<string> | undefined {
    return this.#inlineHeaders
  }

  /** Undefined until the Envoy has said what it is. */
  listeners(): EnvoyListeners | undefined {
    if (this.#envoy === '') return undefined
    const connectedMs = this.#options.timers.now() - this.#connectedAtMs
    return { envoy: this.#envoy, connectedMs, listeners: this.#listeners.names }
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

  /** One step: handles a request, or a part of one, and sends what is due. @returns true if there is more to do */
  #work(): boolean {
    if (!this.#open) return false
    const request = this.#inbox.next()
    if (request != null) this.#receive(request)
    if (!this.#open) return false
    // A request that is read in parts is answered after the last part.
    if (this.#inbox.isInParts) return true
    if (request !== undefined) this.#readToEnd()
    this.#flush()
    return !this.#inbox.isEmpty
  }

  #receive(request: DeltaDiscoveryRequest): void {
    // "Basic Protocol Overview": only the first request must have `node`.
    if (this.#envoy === '') this.#introduce(request.node)
    const kind = kindOf(request.type_url)
    const fault = faultOfRequest(request, this.#named(kind))
    if (fault !== null) {
      this.#refuse(kind, fault)
      return
    }
    if (this.#listeners.receive(request)) {
      if (this.#listeners.isOverLimit) this.#refuse(kind, 'expected fewer listeners')
      return
    }
    if (this.#event !== undefined) {
      this.#found(this.#rollout.receiveMore(request, this.#event))
      return
    }
    const event = this.#rollout.receive(request, this.#options.timers.now())
    if (event === undefined) {
      const type = request.type_url?.slice(0, TYPE_LENGTH_MAX)
      this.#log('warn', { type }, 'an Envoy asked for an unknown type of resource')
      this.#inbox.skipRest()
      return
    }
    this.#event = event
    this.#note(event)
    this.#found(event.found)
  }

  #named(kind: Kind | undefined) {
    const { namesCount: names, held } = this.#rollout.subscription(kind ?? 'cluster')
    const octets = KINDS.reduce((sum, each) => sum + this.#rollout.subscription(each).namesOctets, 0)
    return { names, held: this.#event?.first === true ? held.size : 0, octets }
  }

  #found(zones: RolloutEvent['found']): void {
    if (zones.length === 0) return
    this.#foundCount += zones.length
    for (const { service, id } of zones) this.#options.catalog.adopt({ service, id })
    this.#options.onZonesFound(this.#envoy, zones)
  }

  #readToEnd(): void {
    const event = this.#event
    this.#event = undefined
    const zones = this.#foundCount
    this.#foundCount = 0
    if (zones > 0) this.#log('info', { zones }, 'an Envoy has zones from an earlier processor')
    const isFirst = event?.first === true && event.kind === 'cluster'
    if (isFirst && this.#rollout.clusters.held.size === 0) this.#options.onStarted?.()
  }

  #refuse(kind: Kind | undefined, fault: string): void {
    this.#log('warn', { kind, fault }, 'an Envoy asked for too much; its stream was closed')
    this.#fail(status.RESOURCE_EXHAUSTED, fault)
  }

  #introduce(node: Node | undefined): void {
    this.#envoy = nodeName(node)
    this.#version = nodeVersion(node)
    this.#testedVersion = this.#version === null || this.#options.isTestedVersion(this.#version)
    this.#inlineHeaders = inlineHeaders(node)
    this.#options.onIntroduced?.()
    this.#log('info', { version: this.#version }, 'an Envoy has connected')
    this.#tell({ kind: 'envoy_connected', envoy: this.#envoy, version: this.#version })
    if (!this.#testedVersion)
      this.#log('warn', { version: this.#version }, 'this release is not tested with that version of Envoy')
  }

  #note({ kind, received }: RolloutEvent): void {
    if (received.kind === 'request') return
    const count = this.#counts[kind]
    count.lastAckMs = this.#options.timers.now() - count.sentAtMs
    const answer = received.kind === 'ack' ? 'acks' : 'nacks'
    count[answer] += 1
    this.#options.onAnswer(kind, answer)
    this.#onAnswer(received)
    if (received.kind === 'ack') return
    this.#lastRejection = received.message.slice(0, REJECTION_LENGTH_MAX)
    this.#noteRefusal(kind, received)
  }

  #noteRefusal(
    kind: Kind,
    { updated, removed, atFault }: Extract<Received<Resource>, { kind: 'nack' }>,
  ): void {
    const error = this.#lastRejection
    const nack = { kind: 'nack', envoy: this.#envoy, resource: kind, error: error ?? '' } as const
    if (atFault === undefined) {
      this.#tell(nack)
      const resources = updated.length + removed.length
      this.#log(
        'warn',
        { kind, resources, error },
        'an Envoy refused resources; searching for the one at fault',
      )
    } else if (!atFault.again) {
      const { name } = atFault.resource
      this.#tell({ ...nack, name })
      this.#log(
        'warn',
        { kind, name, error },
        'an Envoy refuses a resource and keeps its previous version; other resources are not affected',
      )
    }
  }

  /** At most one response of each kind is in flight, so the buffer for a slow Envoy is bounded. */
  #flush(): void {
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
        : timers.start(() => this.#turns.take(this.#task), Math.max(0, wakeAtMs - nowMs))
  }

  #close(reason: string): void {
    if (!this.#open) return
    this.#release()
    if (this.#envoy === '') return
    this.#log('info', { reason }, 'an Envoy has disconnected')
    this.#tell({ kind: 'envoy_disconnected', envoy: this.#envoy, why: reason })
  }

  /** Limited like the log, so that an Envoy that keeps reconnecting does not fill the history. */
  #tell(event: EnvoyEvent): void {
    if (this.#limit(`told ${event.kind}`) !== null) this.#options.onEnvoy?.(event)
  }

  /** Limited for each text, so that an Envoy that keeps reconnecting or sends nonsense does not flood the log. */
  #log(level: 'info' | 'warn' | 'error', fields: object, text: string): void {
    const due = this.#limit(text)
    if (due !== null) this.#options.log[level]({ envoy: this.#envoy, ...fields, ...due }, text)
  }

  /** An exception ends one stream: its Envoy keeps what it has and connects again. */
  #guard<Result>(run: () => Result): Result | undefined {
    try {
      return run()
    } catch (error) {
      if (error instanceof RequestFault) this.#refuse(undefined, error.message)
      else if (error instanceof MalformedMessage) this.#fail(status.INTERNAL, error.message)
      else {
        this.#options.onBug(error, { envoy: this.#envoy })
        this.#fail(status.INTERNAL, 'internal error')
      }
      return undefined
    }
  }

  #fail(code: status, details: string): void {
    this.#close('error')
    // `destroy` would send nothing, so the Envoy would go on waiting.
    this.#call.emit('error', { code, details })
  }
}

function perKind<Value>(value: (kind: Kind) => Value): Record<Kind, Value> {
  return { cluster: value('cluster'), endpoints: value('endpoints'), virtualHost: value('virtualHost') }
}
