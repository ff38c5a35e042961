/** What a history keeps: changes that decide where requests go, and a sample of refusals. Of a request's headers only the Host. */
export type HistoryEvent = GatewayEvent | ZoneEvent | RefusedEvent

/** Events of the whole gateway: few, so they reach far back. */
export type GatewayEvent =
  /** A processor serves from now on. */
  | {
      readonly kind: 'started'
      readonly version: string
      /** How long no processor had served before, milliseconds; null: unknown. */
      readonly awayMs: number | null
      /** Whether Envoy resolved names itself meanwhile. */
      readonly fallback: boolean
      readonly file: string
      /** The configuration in force, without secrets. */
      readonly config: object
      readonly search: string
    }
  | { readonly kind: 'stopped'; readonly why: string }
  | { readonly kind: 'clock_set'; readonly byMs: number }
  | { readonly kind: 'config'; readonly file: string; readonly changes: readonly ConfigChangeText[] }
  | { readonly kind: 'config_refused'; readonly file: string; readonly faults: readonly string[] }
  /** The operator's files for Envoy: new ones are in force, or the saved ones have faults. */
  | {
      readonly kind: 'envoy_files'
      readonly files: readonly string[]
      readonly changes: readonly ConfigChangeText[]
    }
  | { readonly kind: 'envoy_files_fault'; readonly faults: readonly string[] }
  | {
      readonly kind: 'nameservers'
      readonly nameservers: readonly string[]
      readonly search: string | null
      readonly from: string
    }
  | { readonly kind: 'nameserver_failing'; readonly nameserver: string; readonly outcome: string }
  | { readonly kind: 'nameserver_recovered'; readonly nameserver: string }
  | { readonly kind: 'envoy_connected'; readonly envoy: string; readonly version: string | null }
  | { readonly kind: 'envoy_disconnected'; readonly envoy: string; readonly why: string }
  | {
      readonly kind: 'nack'
      readonly envoy: string
      readonly resource: string
      /** Name of the resource at fault; absent while the control plane searches for it. */
      readonly name?: string
      readonly error: string
    }
  | ({ readonly kind: 'pinned' | 'unpinned' | 'pin_over' } & PinText)

/** Events of one zone, or of its name. */
export type ZoneEvent =
  | ({
      readonly kind: 'answer'
      readonly name: string
      /** The previous answer; null: nothing was known. */
      readonly before: AnswerText | null
    } & AnswerText)
  /** `why` of learned: a second request (learned), or an Envoy still had it from an earlier configuration or processor (adopted). */
  | {
      readonly kind: 'learned' | 'forgotten'
      readonly zone: string
      readonly name: string
      readonly why: string
    }

export interface RefusedEvent {
  readonly kind: 'refused'
  readonly reason: string
  readonly rule?: string
  /** `mail/12`; absent where no zone was found. */
  readonly zone?: string
  readonly name?: string
  readonly requestId: string
  /** Absent in files of older versions. */
  readonly method?: string
  readonly host?: string
  /** Without its query, shortened. */
  readonly path?: string
  /** Refusals of the same reason and zone that were left out since the last recorded one. */
  readonly leftOut: number
  /** The DNS answer. */
  readonly dns?: string
}

export interface AnswerText {
  readonly result: 'positive' | 'nxdomain' | 'nodata' | 'failure'
  /** `10.1.0.7`, or `10.1.0.7:8101` where SRV gives the port. */
  readonly addresses: readonly string[]
  readonly denied?: readonly string[]
  /** As the nameserver sent it. */
  readonly ttlSeconds?: number
  /** The nameserver that answered. */
  readonly nameserver?: string
  /** Why there is no answer. */
  readonly cause?: string
}

export interface PinText {
  /** As the operator named it: `12`, `mail/12`. */
  readonly zone: string
  readonly addresses: readonly string[]
  readonly who: string
  readonly because: string
  readonly since: string
  readonly until: string
}

export interface ConfigChangeText {
  readonly key: string
  readonly before?: unknown
  readonly after?: unknown
}

/** An event in its place. */
export type Recorded = HistoryEvent & {
  /** Goes up by one with each event, across restarts if there is a file. It is the order of events. */
  readonly seq: number
  /** Wall clock, milliseconds since 1970. It may go back, so order by `seq`. */
  readonly at: number
  /** The event was too long, so parts are missing. */
  readonly cut?: true
}

export const LANES = ['gateway', 'zones', 'refused'] as const
/** Each lane has its own room, so a flood in one does not push out the others. */
export type Lane = (typeof LANES)[number]

export function laneOf(kind: HistoryEvent['kind']): Lane {
  switch (kind) {
    case 'answer':
    case 'learned':
    case 'forgotten':
      return 'zones'
    case 'refused':
      return 'refused'
    default:
      return 'gateway'
  }
}

export const KINDS = [
  ...['started', 'stopped', 'clock_set', 'config', 'config_refused', 'envoy_files', 'envoy_files_fault'],
  ...['nameservers', 'nameserver_failing'],
  ...[
    'nameserver_recovered',
    'envoy_connected',
    'envoy_disconnected',
    'nack',
    'pinned',
    'unpinned',
    'pin_over',
  ],
  ...['answer', 'learned', 'forgotten', 'refused'],
] as readonly HistoryEvent['kind'][]
