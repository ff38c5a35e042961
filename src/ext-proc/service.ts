import { type Metadata, status } from '@grpc/grpc-js'
import { type Call, type CallHandler, directCalls } from '../grpc/direct-calls.ts'
import { externalProcessor, type ProcessingRequest } from '../grpc/protos.ts'
import type { Service } from '../grpc/server.ts'
import type { OnBug } from '../guard.ts'
import type { Decider, Decision } from '../routing/decision.ts'
import {
  headersOf,
  looksIntoBody,
  type RequestHead,
  type Rules,
  ruleOf,
  upstreamsOf,
} from '../routing/rules.ts'
import {
  type Asked,
  createEncoder,
  type Encoder,
  GO_ON,
  headOf,
  SENT_HEADERS,
  type SeenRequest,
  sendsBody,
  UPSTREAMS,
  withholdsBody,
} from './messages.ts'
import type { OpenStreams } from './open-streams.ts'

export interface ExtProcOptions {
  /** What is in force when a request comes, whenever its stream was opened, and behind it what was in force before. */
  readonly inForce: () => readonly [Handling, ...Handling[]]
  /** Told of each decision, with the request it was made for, and the metadata that Envoy sent beside it. */
  readonly onDecision: (decision: Decision, request: SeenRequest, metadata: Metadata) => void
  /** Told of an exception: a bug. The stream it happened in is failed, and no other. */
  readonly onBug: OnBug
  /** Those of all configurations. */
  readonly streams: OpenStreams<Call>
}

/** How requests are decided by one configuration. */
export interface Handling {
  /** Names of the headers that the rules look at, in lower case. */
  readonly headers: ReadonlySet<string>
  /** Clusters that Envoy's routes must know beside `zones`. */
  readonly clusters: readonly string[]
  /** True for a request that is decided when its body is there. */
  readonly needsBody: (head: RequestHead) => boolean
  readonly decide: Decider
  readonly encode: Encoder
}

export function handlingOf(rules: Rules, decide: Decider): Handling {
  const clusters = upstreamsOf(rules).map(({ cluster }) => cluster)
  return {
    headers: new Set(headersOf(rules)),
    clusters,
    needsBody: (head) => {
      const rule = ruleOf(head, rules)
      return rule !== undefined && looksIntoBody(rule)
    },
    decide,
    encode: createEncoder(clusters.length > 0),
  }
}

/**
 * Envoy's external processor: one stream is one HTTP request (Envoy doc: External Processing). A stream that can't be
 * answered fails with a gRPC error, which Envoy turns into 502; it is never just ended, because a clean end means
 * "go on unchanged" in this protocol.
 */
export function externalProcessorService(options: ExtProcOptions): Service {
  const definition = {
    Process: { ...externalProcessor.Process, responseSerialize: (bytes: Buffer) => bytes },
  }
  const accept = acceptBy(options)
  return [definition, {}, directCalls(definition.Process.path, accept, options.onBug)]
}

/** How a stream begins. */
export function acceptBy(
  options: ExtProcOptions,
): (stream: Call) => CallHandler<ProcessingRequest> | undefined {
  return (stream) => {
    if (options.streams.open(stream)) return new OneRequest(stream, options)
    stream.fail(status.RESOURCE_EXHAUSTED, 'too many streams')
    return undefined
  }
}

/** What has been said on one stream. */
class OneRequest implements CallHandler<ProcessingRequest> {
  readonly #stream: Call
  readonly #options: ExtProcOptions
  #state: 'silent' | 'asked' | 'answered' = 'silent'
  #isHalfClosed = false
  /** A request whose body is yet to come. */
  #waiting: { readonly head: SeenRequest; readonly by: Handling } | undefined

  constructor(stream: Call, options: ExtProcOptions) {
    this.#stream = stream
    this.#options = options
  }

  receive(message: ProcessingRequest): void {
    if (this.#state === 'silent') this.#receiveHead(message)
    else this.#receiveBody(message)
  }

  /** Envoy half-closes when it needs no more: the end of a stream is its own only once it was answered. */
  halfClosed(): void {
    this.#isHalfClosed = true
    if (this.#state === 'answered') this.#stream.end()
    else if (this.#state === 'silent') this.#refuse('expected request_headers')
    else if (this.#waiting !== undefined) this.#refuse('expected request_body')
  }

  closed(): void {
    this.#options.streams.close(this.#stream)
  }

  #receiveHead(message: ProcessingRequest): void {
    this.#state = 'asked'
    this.#options.streams.spoke(this.#stream)
    const by = handlingFor(message, this.#stream.metadata, this.#options.inForce())
    const head = headOf(message, by.headers)
    if (head === null) this.#refuse('expected request_headers')
    else if (sendsBody(message) && by.needsBody(head)) {
      this.#waiting = { head, by }
      this.#stream.send(GO_ON.request_headers)
    } else this.#decide(head, by, 'request_headers')
  }

  #receiveBody({ request_body }: ProcessingRequest): void {
    if (request_body === undefined) return
    if (this.#waiting === undefined) {
      this.#stream.send(GO_ON.request_body) // Envoy's routes are those of other rules for a moment
      return
    }
    const { head, by } = this.#waiting
    this.#waiting = undefined
    this.#decide({ ...head, body: request_body.body ?? Buffer.alloc(0) }, by, 'request_body')
  }

  #decide(head: SeenRequest, by: Handling, asked: Asked): void {
    const answer = (decision: Decision): void => {
      if (this.#stream.isOver) return
      this.#stream.send(by.encode(decision, asked))
      this.#state = 'answered'
      if (this.#isHalfClosed) this.#stream.end()
      this.#options.onDecision(decision, head, this.#stream.metadata)
    }
    const decision = by.decide(head)
    if (decision instanceof Promise)
      decision.then(answer).catch((error: unknown) => this.#stream.failBy(error))
    else answer(decision)
  }

  #refuse(details: string): void {
    this.#stream.fail(status.INVALID_ARGUMENT, details)
  }
}

/**
 * The newest way to decide a request that Envoy has sent enough of. Right after a change a request may come over a connection
 * of the listener before, which sends other headers, or no body; or Envoy's routes don't know yet how a zone is reached now. By
 * those it would be 502: `forward` takes no address with another cluster in front.
 */
function handlingFor(
  message: ProcessingRequest,
  metadata: Metadata,
  inForce: readonly [Handling, ...Handling[]],
): Handling {
  const [newest] = inForce
  if (inForce.length === 1) return newest
  const [sent] = metadata.get(SENT_HEADERS)
  if (sent === undefined) return newest
  const names = new Set(String(sent).split(','))
  const [known = ''] = metadata.get(UPSTREAMS)
  const clusters = new Set(String(known).split(','))
  const isEnough = (handling: Handling): boolean => {
    if (!handling.clusters.every((cluster) => clusters.has(cluster))) return false
    if (![...handling.headers].every((name) => names.has(name))) return false
    const head = headOf(message, handling.headers)
    return head === null || !withholdsBody(message) || !handling.needsBody(head)
  }
  return inForce.find(isEnough) ?? newest
}

/** Fails the streams that have not said anything for too long. */
export function failSilent(streams: OpenStreams<Call>): void {
  for (const stream of streams.overdue()) stream.fail(status.DEADLINE_EXCEEDED, 'expected request_headers')
}
