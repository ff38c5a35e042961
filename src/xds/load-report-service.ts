import { type ServerDuplexStream, status } from '@grpc/grpc-js'
import type { ClusterStats, LoadStatsRequest, LoadStatsResponse } from '../grpc/protos.ts'
import { durationOf } from './duration.ts'
import { nodeName } from './node.ts'
import { ENVOYS_MAX } from './request-limits.ts'
import { parseZoneKey, type ZoneKey } from './resource.ts'

/** What one Envoy did for a zone since its report before. */
export interface ZoneLoad {
  /** Requests begun in the period, and those begun earlier that are still under way. */
  readonly requests: number
  /**
   * Tries that ended with a 5xx status or without an answer, failed connections among them; a request that was tried
   * again may have succeeded.
   */
  readonly errors: number
}

export interface LoadReportOptions {
  /** How often an Envoy reports. */
  readonly intervalMs: number
  onLoad(envoy: string, key: ZoneKey, load: ZoneLoad): void
  /** Told of an exception: a bug. The stream it happened in is failed, and no other. */
  onBug(error: unknown): void
}

type Call = ServerDuplexStream<LoadStatsRequest, LoadStatsResponse>

/** The load reporting service: tells which zones are in use, though their requests never come here. */
export class LoadReportService {
  readonly #options: LoadReportOptions
  readonly #calls = new Set<Call>()

  constructor(options: LoadReportOptions) {
    this.#options = options
  }

  /** The gRPC method StreamLoadStats. */
  readonly handle = (call: Call): void => {
    if (this.#calls.size >= ENVOYS_MAX) {
      call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: 'too many Envoys' })
      return
    }
    let envoy: string | undefined
    this.#calls.add(call)
    const forget = (): void => void this.#calls.delete(call)
    call.on('data', (request: LoadStatsRequest) => {
      try {
        // The first request says who reports, and waits to be told what of.
        if (envoy === undefined) {
          envoy = nodeName(request.node)
          call.write({
            send_all_clusters: true,
            load_reporting_interval: durationOf(this.#options.intervalMs),
          })
        }
        this.#report(envoy, request)
      } catch (error) {
        forget()
        this.#options.onBug(error)
        // Not `destroy`, which sends nothing: the Envoy would go on waiting.
        call.emit('error', { code: status.INTERNAL, details: 'internal error' })
      }
    })
    call.on('end', () => {
      forget()
      call.end()
    })
    for (const event of ['cancelled', 'error', 'close']) call.on(event, forget)
  }

  #report(envoy: string, request: LoadStatsRequest): void {
    for (const stats of request.cluster_stats ?? []) {
      const zone = parseZoneKey(stats.cluster_name ?? '')
      if (zone !== undefined) this.#options.onLoad(envoy, zone.key, loadOf(stats))
    }
  }

  close(): void {
    for (const call of this.#calls) call.end()
    this.#calls.clear()
  }
}

/** An idle cluster is reported too: without localities. */
function loadOf({ upstream_locality_stats: localities = [] }: ClusterStats): ZoneLoad {
  let requests = 0
  let errors = 0
  for (const locality of localities) {
    requests += (locality.total_issued_requests ?? 0) + (locality.total_requests_in_progress ?? 0)
    errors += locality.total_error_requests ?? 0
  }
  return { requests, errors }
}
