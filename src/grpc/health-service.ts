import { type ServerUnaryCall, type ServerWritableStream, type sendUnaryData, status } from '@grpc/grpc-js'
import { type HealthCheckRequest, type HealthCheckResponse, health } from './protos.ts'
import type { Service } from './server.ts'

/** Names of the services that health is told of; the empty name is the server as a whole (gRPC Health Checking Protocol). */
const SERVICES: ReadonlySet<string> = new Set(['', 'envoy.service.ext_proc.v3.ExternalProcessor'])

export interface Health {
  readonly service: Service
  /** Not serving: readiness is over, streams in flight go on. */
  stop(): void
}

/** The gRPC health service, serving until `stop`. */
export function createHealth(): Health {
  let serving = true
  const watchers = new Set<ServerWritableStream<HealthCheckRequest, HealthCheckResponse>>()
  const now = (): HealthCheckResponse => ({ status: serving ? 'SERVING' : 'NOT_SERVING' })

  const Check = (
    call: ServerUnaryCall<HealthCheckRequest, HealthCheckResponse>,
    reply: sendUnaryData<HealthCheckResponse>,
  ): void => {
    if (SERVICES.has(call.request.service ?? '')) reply(null, now())
    else reply({ code: status.NOT_FOUND, details: 'no such service' })
  }
  const Watch = (call: ServerWritableStream<HealthCheckRequest, HealthCheckResponse>): void => {
    if (!SERVICES.has(call.request.service ?? '')) {
      call.write({ status: 'SERVICE_UNKNOWN' })
      return
    }
    watchers.add(call)
    call.on('cancelled', () => watchers.delete(call))
    call.write(now())
  }
  return {
    service: [health, { Check, Watch }],
    stop: () => {
      serving = false
      for (const call of watchers) {
        call.write(now())
        call.end()
      }
      watchers.clear()
    },
  }
}
