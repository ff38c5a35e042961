import { Metadata, type ServerInterceptingCallInterface, type status } from '@grpc/grpc-js'
import type { Service } from '../../src/grpc/server.ts'

type Listener = Parameters<ServerInterceptingCallInterface['start']>[0]

/** The client's side of one call to a service with an interceptor (src/grpc/direct-calls.ts). */
export class FakeDirectCall {
  readonly sent: Buffer[] = []
  /** Each status with which the server ended the call. */
  readonly ends: { readonly code: status | null; readonly details: string | null }[] = []
  #listener: Listener | undefined
  #reads = 0

  /** @param service with an interceptor */
  constructor([definition, , interceptor]: Service, metadata: Readonly<Record<string, string>> = {}) {
    const [method] = Object.values(definition)
    const said = new Metadata()
    for (const [name, value] of Object.entries(metadata)) said.set(name, value)
    const inner: ServerInterceptingCallInterface = {
      start: (listener) => {
        this.#listener = listener
        listener.onReceiveMetadata(said)
      },
      startRead: () => {
        this.#reads += 1
      },
      sendMessage: (bytes) => this.sent.push(bytes),
      sendStatus: ({ code = null, details = null }) => this.ends.push({ code, details }),
      sendMetadata: notAsked,
      getPeer: notAsked,
      getDeadline: notAsked,
      getHost: notAsked,
      getAuthContext: notAsked,
      getConnectionInfo: notAsked,
      getMetricsRecorder: notAsked,
    }
    if (method === undefined || interceptor === undefined) throw new Error('no service of direct calls')
    interceptor(method, inner).start({
      onReceiveMetadata: neverTold,
      onReceiveMessage: neverTold,
      onReceiveHalfClose: neverTold,
      onCancel: neverTold,
    })
  }

  /** Sends a message, if the server is reading. */
  message(message: unknown): void {
    if (this.#reads === 0) return
    this.#reads -= 1
    this.#listener?.onReceiveMessage(message)
  }

  halfClose(): void {
    if (this.#reads > 0) this.#listener?.onReceiveHalfClose()
  }

  /** The stream has closed. */
  close(): void {
    this.#listener?.onCancel()
  }
}

function notAsked(): never {
  throw new Error('a direct call has no use for this')
}

function neverTold(): void {
  throw new Error('the handler of gRPC was told')
}
