import { Metadata, type ServerInterceptingCallInterface, type status } from '@grpc/grpc-js'
import type { Service } from '../../src/grpc/server.ts'

type Listener = Parameters<ServerInterceptingCallInterface['start']>[0]

/** One call of a service that takes calls before gRPC has a handler for them, played from the client's side. */
export class FakeDirectCall {
  readonly sent: Buffer[] = []
  /** Each time that it was ended, with what. */
  readonly ends: { readonly code: status | null; readonly details: string | null }[] = []
  #listener: Listener | undefined
  #reads = 0

  /** @param service with an interceptor */
  constructor([definition, , interceptor]: Service, metadata: Readonly<Record<string, string>> = {}) {
    const [method] = Object.values(definition)
    const said = new Metadata()
    for (const [name, value] of Object.entries(metadata)) said.set(name, value)
    const inner = {
      start: (listener: Listener): void => {
        this.#listener = listener
        listener.onReceiveMetadata(said)
      },
      startRead: () => {
        this.#reads += 1
      },
      sendMessage: (bytes: Buffer) => this.sent.push(bytes),
      sendStatus: ({ code, details }: { code: status; details: string }) => this.ends.push({ code, details }),
    } as unknown as ServerInterceptingCallInterface
    if (method === undefined || interceptor === undefined) throw new Error('no service of direct calls')
    interceptor(method, inner).start({
      onReceiveMetadata: neverTold,
      onReceiveMessage: neverTold,
      onReceiveHalfClose: neverTold,
      onCancel: neverTold,
    })
  }

  /** A message from the client, where one is waited for. */
  message(message: unknown): void {
    if (this.#reads === 0) return
    this.#reads -= 1
    this.#listener?.onReceiveMessage(message)
  }

  halfClose(): void {
    if (this.#reads > 0) this.#listener?.onReceiveHalfClose()
  }

  /** The stream is gone, as after any end. */
  close(): void {
    this.#listener?.onCancel()
  }
}

function neverTold(): void {
  throw new Error('the handler of gRPC was told')
}
