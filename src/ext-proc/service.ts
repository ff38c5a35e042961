import {
  type Metadata,
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import { externalProcessor, type ProcessingRequest } from '../grpc/protos.ts'
import type { Decider } from '../routing/decider.ts'
import type { Decision } from '../routing/decision.ts'
import { createEncoder, headOf, type SeenRequest } from './messages.ts'
import type { OpenStreams } from './open-streams.ts'

export interface ExtProcOptions {
  /** Lower-case name of the header that carries the id. */
  readonly idHeader: string
  readonly methods: ReadonlySet<string>
  readonly decide: Decider
  /** Told of each decision, with the request it was made for, and the metadata that Envoy sent beside it. */
  readonly onDecision: (decision: Decision, request: SeenRequest, metadata: Metadata) => void
  /** Told of an exception: a bug. The stream it happened in is failed, and no other. */
  readonly onBug: (error: unknown) => void
  /** Those of all configurations. */
  readonly streams: OpenStreams<Stream>
}

export type Stream = ServerDuplexStream<ProcessingRequest, Buffer>

/**
 * Envoy's external processor: one stream is one HTTP request (Envoy doc: External Processing). A stream that can't be
 * answered fails with a gRPC error, which Envoy turns into 502; it is never just ended, because a clean end means
 * "go on unchanged" in this protocol.
 */
export function externalProcessorService(
  options: ExtProcOptions,
): [ServiceDefinition, UntypedServiceImplementation] {
  const encode = createEncoder(options.methods)
  const definition = {
    Process: { ...externalProcessor.Process, responseSerialize: (bytes: Buffer) => bytes },
  }

  const onRequest = (stream: Stream, request: ProcessingRequest, answered: () => void): void => {
    const head = headOf(request, options.idHeader)
    if (head === null) {
      stream.emit('error', { code: status.INVALID_ARGUMENT, details: 'expected request_headers' })
      return
    }
    const answer = (decision: Decision): void => {
      if (stream.cancelled) return
      stream.write(encode(decision))
      answered()
      options.onDecision(decision, head, stream.metadata)
    }
    const decision = options.decide(head)
    if (decision instanceof Promise) decision.then(answer).catch((error: unknown) => fail(stream, error))
    else answer(decision)
  }

  const fail = (stream: Stream, error: unknown): void => {
    options.onBug(error)
    stream.emit('error', { code: status.INTERNAL, details: 'internal error' })
  }

  const process = (stream: Stream): void => {
    if (!options.streams.open(stream)) {
      stream.emit('error', { code: status.RESOURCE_EXHAUSTED, details: 'too many streams' })
      return
    }
    stream.once('close', () => options.streams.close(stream))
    let state: 'silent' | 'asked' | 'answered' | 'failed' = 'silent'
    let halfClosed = false
    stream.on('data', (request: ProcessingRequest) => {
      if (state !== 'silent') return // Envoy sends one message; more would be the body, which is not asked for
      state = 'asked'
      options.streams.spoke(stream)
      try {
        onRequest(stream, request, () => {
          state = 'answered'
          if (halfClosed) stream.end()
        })
      } catch (error) {
        fail(stream, error)
      }
    })
    // Envoy half-closes when it needs no more: the end of a stream is its own only once it was answered.
    stream.on('end', () => {
      halfClosed = true
      if (state === 'answered') stream.end()
      else if (state === 'silent')
        stream.emit('error', { code: status.INVALID_ARGUMENT, details: 'expected request_headers' })
    })
    stream.on('error', () => {
      state = 'failed'
    })
  }
  return [definition, { Process: process }]
}

/** Fails the streams that have not said anything for too long. */
export function failSilent(streams: OpenStreams<Stream>): void {
  for (const stream of streams.overdue())
    stream.emit('error', { code: status.DEADLINE_EXCEEDED, details: 'expected request_headers' })
}
