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
  /** The configuration in force when a request comes, followed by earlier ones that Envoy may still work by. */
  readonly inForce: () => readonly [Handling, ...Handling[]]
  /** Called with each decision, its request, and the gRPC metadata that Envoy sent. */
  readonly onDecision: (decision: Decision, request: SeenRequest, metadata: Metadata) => void
  /** Hears of an exception, which is a bug. It ends one stream and no other. */
  readonly onBug: OnBug
  /** The open streams of all configurations. */
  readonly streams: OpenStreams<Call>
}

/** How one configuration decides requests. */
export interface Handling {
  /** Names of the headers that the rules read, in lower case. */
  readonly headers: ReadonlySet<string>
  /** Clusters that Envoy's routes must know in addition to `zones`. */
  readonly clusters: readonly string[]
  /** True if the request's body is needed for the decision. */
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
 * Envoy's external processor: one stream is one HTTP request (Envoy doc: External Processing). A stream that can't be answered
 * fails with a gRPC error, which Envoy turns into 502. It must not just end, because in this protocol a clean end means
 * "continue unchanged".
 */
export function externalProcessorService(options: ExtProcOptions): Service {
  const definition = {
    Process: { ...externalProcessor.Process, responseSerialize: (bytes: Buffer) => bytes },
  }
  const accept = acceptBy(options)
  return [definition, {}, directCalls(definition.Process.path, accept, options.onBug)]
}

/** Accepts a new stream, unless there are too many. */
export function acceptBy(
  options: ExtProcOptions,
): (stream: Call) => CallHandler<ProcessingRequest> | undefined {
  return (stream) => {
    if (options.streams.open(stream)) return new OneRequest(stream, options)
    stream.fail(status.RESOURCE_EXHAUSTED, 'too many streams')
    return undefined
  }
}

/** The state of one stream. */
class OneRequest implements CallHandler<ProcessingRequest> {
  readonly #stream: Call
  readonly #options: ExtProcOptions
  #state: 'silent' | 'asked' | 'answered' = 'silent'
  #isHalfClosed = false
  /** The request, while its body is yet to come. */
  #waiting: { readonly head: SeenRequest; readonly by: Handling } | undefined

  constructor(stream: Call, options: ExtProcOptions) {
    this.#stream = stream
    this.#options = options
  }

  receive(message: ProcessingRequest): void {
    if (this.#state === 'silent') this.#receiveHead(message)
    else this.#receiveBody(message)
  }

  /** Envoy half-closes when it needs nothing more. The stream may end only after the answer. */
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
    if (by === undefined) {
      this.#refuse('expected all that the rules read: Envoy still works by earlier ones')
      return
    }
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
      this.#stream.send(GO_ON.request_body) // for a moment after a change Envoy's routes are those of other rules
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
 * The newest configuration for which Envoy has sent enough of the request. Right after a change a request may come by the previous
 * listener, which sends other headers or no body. Or Envoy's routes don't know a new cluster yet: they would answer 502 to an
 * address with that cluster in front.
 * @returns undefined: there is none, and with a part missing the rules could find an id in another place, and so another zone
 */
function handlingFor(
  message: ProcessingRequest,
  metadata: Metadata,
  inForce: readonly [Handling, ...Handling[]],
): Handling | undefined {
  const [newest] = inForce
  const [sent] = metadata.get(SENT_HEADERS)
  if (sent === undefined) return newest
  const names = new Set(String(sent).split(','))
  const hasParts = (handling: Handling): boolean => {
    for (const name of handling.headers) if (!names.has(name)) return false
    if (!withholdsBody(message)) return true
    const head = headOf(message, handling.headers)
    return head === null || !handling.needsBody(head)
  }
  if (inForce.length === 1) return hasParts(newest) ? newest : undefined
  const [known = ''] = metadata.get(UPSTREAMS)
  const clusters = new Set(String(known).split(','))
  const knowsClusters = (handling: Handling): boolean =>
    handling.clusters.every((cluster) => clusters.has(cluster))
  const withParts = inForce.filter(hasParts)
  return withParts.find(knowsClusters) ?? withParts[0]
}

/** Fails the streams that have been silent for too long. */
export function failSilent(streams: OpenStreams<Call>): void {
  for (const stream of streams.overdue()) stream.fail(status.DEADLINE_EXCEEDED, 'expected request_headers')
}
