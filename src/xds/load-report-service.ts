import { type ServerDuplexStream, status } from '@grpc/grpc-js'
import {
  type ClusterStats,
  codec,
  type LoadStatsRequest,
  type LoadStatsResponse,
  loadReporting,
} from '../grpc/protos.ts'
import { guarded, type OnBug } from '../guard.ts'
import type { Timers } from '../timers.ts'
import { Turns } from '../turns.ts'
import { durationOf } from './duration.ts'
import { ENVOYS_MAX, FIRST_REQUEST_WITHIN_MS, nodeName } from './envoy-client.ts'
import { Inbox, wholeIfSmall } from './inbox.ts'
import { parseZoneKey, type ZoneKey } from './resource.ts'
import { MalformedMessage, WireReader } from './wire.ts'

/** What one Envoy did for a zone since its last report. */
export interface ZoneLoad {
  /** Requests that began in the period, plus earlier ones still under way. */
  readonly requests: number
  /** Tries that ended with a 5xx status or without an answer, including failed connections. A retry may have succeeded. */
  readonly errors: number
}

export interface LoadReportOptions {
  /** How often each Envoy reports. */
  readonly intervalMs: number
  readonly timers: Timers
  onLoad(envoy: string, key: ZoneKey, load: ZoneLoad): void
  /** Hears of an exception, which is a bug. It ends one stream and no other. */
  readonly onBug: OnBug
}

/** A large report stays undecoded, to be read in parts. */
type Call = ServerDuplexStream<LoadStatsRequest | Buffer, LoadStatsResponse>

const { StreamLoadStats } = loadReporting

/** The method's definition for a server that reads large reports in parts. */
export const loadReportDefinition = {
  StreamLoadStats: {
    ...StreamLoadStats,
    requestDeserialize: wholeIfSmall(StreamLoadStats.requestDeserialize),
  },
}

/** The load reporting service. From it the processor knows which learned zones are in use, though it never sees their requests. */
export class LoadReportService {
  readonly #options: LoadReportOptions
  readonly #calls = new Set<Call>()
  #isClosed = false
  readonly #turns: Turns

  constructor(options: LoadReportOptions) {
    this.#options = options
    this.#turns = new Turns(options.timers)
  }

  /** The gRPC method StreamLoadStats. */
  readonly handle = (call: Call): void => {
    if (this.#isClosed || this.#calls.size >= ENVOYS_MAX) {
      const code = this.#isClosed ? status.UNAVAILABLE : status.RESOURCE_EXHAUSTED
      call.emit('error', { code, details: this.#isClosed ? 'shutting down' : 'too many Envoys' })
      return
    }
    const { onBug, timers } = this.#options
    let envoy: string | undefined
    const inbox = new Inbox(call, reportParts)
    // `destroy` would send nothing, so the Envoy would go on waiting.
    const fail = (code: status, details: string): void => {
      forget()
      call.emit('error', { code, details })
    }
    const take = (report: LoadStatsRequest): void => {
      // The first request names the Envoy. The answer says which clusters to report.
      if (envoy === undefined) {
        envoy = nodeName(report.node)
        call.write({
          send_all_clusters: true,
          load_reporting_interval: durationOf(this.#options.intervalMs),
        })
      }
      this.#report(envoy, report)
    }
    /** One step: handles a report, or a part of one. @returns true if there is more to do */
    const work = (): boolean => {
      const report = inbox.next()
      if (report != null) take(report)
      return !inbox.isEmpty
    }
    const task = (): boolean => {
      try {
        return this.#calls.has(call) && work()
      } catch (error) {
        if (error instanceof MalformedMessage) fail(status.INTERNAL, error.message)
        else {
          onBug(error, { envoy })
          fail(status.INTERNAL, 'internal error')
        }
        return false
      }
    }
    const silence = timers.start(() => fail(status.DEADLINE_EXCEEDED, 'no request'), FIRST_REQUEST_WITHIN_MS)
    const forget = (): void => {
      silence.cancel()
      this.#calls.delete(call)
      this.#turns.drop(task)
    }
    this.#calls.add(call)
    call.on('data', (report: LoadStatsRequest | Buffer) => {
      if (!this.#calls.has(call)) return
      silence.cancel()
      inbox.add(report)
      this.#turns.take(task)
    })
    call.on(
      'end',
      guarded(onBug, () => {
        forget()
        call.end()
      }),
    )
    for (const event of ['cancelled', 'error', 'close']) call.on(event, forget)
  }

  #report(envoy: string, request: LoadStatsRequest): void {
    for (const stats of request.cluster_stats ?? []) {
      const zone = parseZoneKey(stats.cluster_name ?? '')
      if (zone !== undefined) this.#options.onLoad(envoy, zone.key, loadOf(stats))
    }
  }

  close(): void {
    this.#isClosed = true
    for (const call of this.#calls) call.end()
    this.#calls.clear()
    this.#turns.close()
  }
}

/** Field numbers of LoadStatsRequest. */
const FIELD = { node: 1, clusterStats: 2 } as const
const CLUSTERS_PER_PART = 200
/** Fields to read before other tasks get their turn. */
const FIELDS_PER_STEP = 5_000

const reports = codec<LoadStatsRequest>('envoy.service.load_stats.v3.LoadStatsRequest')

/**
 * Reads a large report in parts, because decoding one of 10,000 zones at once would block the event loop.
 * @throws MalformedMessage
 */
function* reportParts(bytes: Buffer): Generator<LoadStatsRequest, void> {
  const wire = new WireReader(bytes)
  let part: Buffer[] = []
  for (let fields = 1; !wire.atEnd; fields++) {
    if (fields % FIELDS_PER_STEP === 0) yield {}
    const start = wire.offset
    const field = wire.field()
    wire.skip()
    if (field !== FIELD.node && field !== FIELD.clusterStats) continue
    part.push(bytes.subarray(start, wire.offset))
    if (part.length < CLUSTERS_PER_PART) continue
    yield decodeReport(part)
    part = []
  }
  yield decodeReport(part)
}

function decodeReport(fields: readonly Buffer[]): LoadStatsRequest {
  try {
    return reports.decode(Buffer.concat(fields))
  } catch (error) {
    throw new MalformedMessage((error as Error).message)
  }
}

/** A report of an idle cluster has no localities. */
function loadOf({ upstream_locality_stats: localities = [] }: ClusterStats): ZoneLoad {
  let requests = 0
  let errors = 0
  for (const locality of localities) {
    requests += (locality.total_issued_requests ?? 0) + (locality.total_requests_in_progress ?? 0)
    errors += locality.total_error_requests ?? 0
  }
  return { requests, errors }
}
