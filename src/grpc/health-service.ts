import { type ServerUnaryCall, type ServerWritableStream, type sendUnaryData, status } from '@grpc/grpc-js'
import { type HealthCheckRequest, type HealthCheckResponse, health } from './protos.ts'
import type { Service } from './server.ts'

/** Names of the services that health is told of; the empty name is the server as a whole (gRPC Health Checking Protocol). */
const SERVICES: ReadonlySet<string> = new Set(['', 'envoy.service.ext_proc.v3.ExternalProcessor'])

/** Who watches: a few probes and balancers. Each costs some 15 KB. Beyond: RESOURCE_EXHAUSTED. */
export const WATCHERS_MAX = 64
/** After so long a watch ends with UNAVAILABLE, and who still wants it begins another, as the protocol has it. */
export const WATCH_MS = 600_000

export interface Health {
  readonly service: Service
  /** Not serving: readiness is over, streams in flight go on. */
  stop(): void
}

type Watcher = ServerWritableStream<HealthCheckRequest, HealthCheckResponse>

/**
 * The gRPC health service, serving until `stop`.
 * @param watchMs WATCH_MS, but in tests
 */
export function createHealth(watchMs: number = WATCH_MS): Health {
  let serving = true
  /** Until when. Those that ask for an unknown service are among them: they cost the same. */
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
