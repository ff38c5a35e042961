/**
 * Calls that are handled where gRPC hears of them. For a handler gRPC would make a Node stream of each call, which is a
 * quarter of what gRPC costs for one that carries a message each way (docs/decisions/0041).
 */
import {
  Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  status,
} from '@grpc/grpc-js'
import type { OnBug } from '../guard.ts'

/** One call, to its client. */
export interface Call {
  /** What the client said beside its messages. */
  readonly metadata: Metadata
  /** True from its end on, however that came about. Nothing is sent then. */
  readonly isOver: boolean
  send(message: Buffer): void
  end(): void
  /** Ends it with an error. */
  fail(code: status, details: string): void
  /** The same for a bug, which is told. */
  failBy(bug: unknown): void
}

/** What is done with one call. An exception fails the call, and no other. */
export interface CallHandler<Message> {
  receive(message: Message): void
  /** The client sends no more. */
  halfClosed(): void
  /** It has ended, however that came about. Told once, and last. */
  closed(): void
}

/** @returns undefined where the call was failed at once */
export type Accept<Message> = (call: Call) => CallHandler<Message> | undefined

/** Takes the calls of the method at this path; all others go on to their handlers. */
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

  /** The listener that gRPC has for a handler hears nothing. */
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
    // Node's streams live until the next full collection (docs/decisions/0041), and this with them.
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
