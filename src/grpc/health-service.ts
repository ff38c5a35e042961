import { type ServerUnaryCall, type ServerWritableStream, type sendUnaryData, status } from '@grpc/grpc-js'
import { type HealthCheckRequest, type HealthCheckResponse, health } from './protos.ts'
import type { Service } from './server.ts'

/** Services that have a health; the empty name is the whole server (gRPC Health Checking Protocol). */
const SERVICES: ReadonlySet<string> = new Set(['', 'envoy.service.ext_proc.v3.ExternalProcessor'])

/** Watches at once: enough for some probes and load balancers. Each takes some 15 KB. A further one gets RESOURCE_EXHAUSTED. */
export const WATCHERS_MAX = 64
/** A watch ends with UNAVAILABLE after this time. By the protocol, the client then starts another one. */
export const WATCH_MS = 600_000

export interface Health {
  readonly service: Service
  /** Reports NOT_SERVING from now on. Streams in flight continue. */
  stop(): void
}

type Watcher = ServerWritableStream<HealthCheckRequest, HealthCheckResponse>

/**
 * The gRPC health service, serving until `stop`.
 * @param watchMs WATCH_MS except in tests
 */
export function createHealth(watchMs: number = WATCH_MS): Health {
  let serving = true
  /** Watches and their timers, including those of unknown services, which cost the same. */
  const watchers = new Map<Watcher, NodeJS.Timeout>()
  const now = (): HealthCheckResponse => ({ status: serving ? 'SERVING' : 'NOT_SERVING' })
  const forget = (call: Watcher): void => {
    clearTimeout(watchers.get(call))
    watchers.delete(call)
  }
  const fail = (call: Watcher, code: status, details: string): void => {
    forget(call)
    call.emit('error', { code, details })
  }

  const Check = (
    call: ServerUnaryCall<HealthCheckRequest, HealthCheckResponse>,
    reply: sendUnaryData<HealthCheckResponse>,
  ): void => {
    if (SERVICES.has(call.request.service ?? '')) reply(null, now())
    else reply({ code: status.NOT_FOUND, details: 'no such service' })
  }
  const Watch = (call: Watcher): void => {
    if (watchers.size >= WATCHERS_MAX) {
      fail(call, status.RESOURCE_EXHAUSTED, 'too many watchers')
      return
    }
    const end = setTimeout(() => fail(call, status.UNAVAILABLE, 'watch again'), watchMs).unref()
    watchers.set(call, end)
    for (const event of ['cancelled', 'close', 'error']) call.on(event, () => forget(call))
    call.write(SERVICES.has(call.request.service ?? '') ? now() : { status: 'SERVICE_UNKNOWN' })
  }
  return {
    service: [health, { Check, Watch }],
    stop: () => {
      serving = false
      for (const call of [...watchers.keys()]) {
        if (SERVICES.has(call.request.service ?? '')) call.write(now())
        call.end()
        forget(call)
      }
    },
  }
}
