/**
 * Handles calls in a gRPC interceptor. For an ordinary handler gRPC would make a Node stream for each call, a quarter of its cost
 * for a call with one message each way (docs/decisions/0041).
 */
import {
  Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  status,
} from '@grpc/grpc-js'
import type { OnBug } from '../guard.ts'

/** The server's side of one call. */
export interface Call {
  /** The client's gRPC metadata. */
  readonly metadata: Metadata
  /** True once the call has ended in any way. Nothing is sent after that. */
  readonly isOver: boolean
  send(message: Buffer): void
  end(): void
  /** Ends the call with an error. */
  fail(code: status, details: string): void
  /** Reports a bug and ends the call with INTERNAL. */
  failBy(bug: unknown): void
}

/** Handles one call. An exception fails this call and no other. */
export interface CallHandler<Message> {
  receive(message: Message): void
  /** The client will send no more messages. */
  halfClosed(): void
  /** The call has ended in any way. Called once, after everything else. */
  closed(): void
}

/** Starts handling a call. @returns undefined: it has failed the call */
export type Accept<Message> = (call: Call) => CallHandler<Message> | undefined

/** An interceptor for the method at this path. Other calls go to their handlers. */
export function directCalls<Message>(path: string, accept: Accept<Message>, onBug: OnBug): ServerInterceptor {
  return (method, call) =>
    method.path === path ? new DirectCall(call, accept, onBug) : new ServerInterceptingCall(call)
}

const NO_METADATA = new Metadata()
const OK = { code: status.OK, details: 'OK', metadata: null }
const ignore = (): void => undefined

class DirectCall<Message> extends ServerInterceptingCall implements Call {
  readonly #call: ServerInterceptingCallInterface
  readonly #accept: Accept<Message>
  readonly #onBug: OnBug
  #handler: CallHandler<Message> | undefined
  metadata = NO_METADATA
  isOver = false

  constructor(call: ServerInterceptingCallInterface, accept: Accept<Message>, onBug: OnBug) {
    super(call)
    this.#call = call
    this.#accept = accept
    this.#onBug = onBug
  }

  /** Ignores the listener that gRPC passes here: it belongs to the ordinary handler. */
  override start(): void {
    this.#call.start(this)
  }

  onReceiveMetadata(metadata: Metadata): void {
    this.metadata = metadata
    try {
      this.#handler = this.#accept(this)
    } catch (error) {
      this.failBy(error)
    }
    if (!this.isOver) this.#call.startRead()
  }

  onReceiveMessage(message: Message): void {
    if (this.isOver) return
    try {
      this.#handler?.receive(message)
    } catch (error) {
      this.failBy(error)
    }
    if (!this.isOver) this.#call.startRead()
  }

  onReceiveHalfClose(): void {
    if (this.isOver) return
    try {
      this.#handler?.halfClosed()
    } catch (error) {
      this.failBy(error)
    }
  }

  onCancel(): void {
    this.isOver = true
    try {
      this.#handler?.closed()
    } catch (error) {
      this.#onBug(error)
    }
    // Node's HTTP/2 streams refer to this object until the next full garbage collection (docs/decisions/0041).
    this.#handler = undefined
    this.metadata = NO_METADATA
  }

  send(message: Buffer): void {
    if (!this.isOver) this.#call.sendMessage(message, ignore)
  }

  end(): void {
    this.#endWith(OK)
  }

  fail(code: status, details: string): void {
    this.#endWith({ code, details, metadata: null })
  }

  failBy(bug: unknown): void {
    this.#onBug(bug)
    this.fail(status.INTERNAL, 'internal error')
  }

  #endWith(how: { code: status; details: string; metadata: null }): void {
    if (this.isOver) return
    this.isOver = true
    this.#call.sendStatus(how)
  }
}
