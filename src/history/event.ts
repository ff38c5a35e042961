/** What a history keeps: changes of what requests are decided by, and a sample of what was refused. Of headers the Host's value only. */
export type HistoryEvent = GatewayEvent | ZoneEvent | RefusedEvent

/** Of the gateway as a whole: few, and told for as long as there is room. */
export type GatewayEvent =
  /** A processor serves from now on. */
  | {
      readonly kind: 'started'
      readonly version: string
      /** How long no processor had served before, milliseconds; null: nobody knows. */
      readonly awayMs: number | null
      /** Whether Envoy resolved names itself meanwhile. */
      readonly fallback: boolean
      readonly file: string
      /** In force, without secrets. */
      readonly config: object
      readonly search: string
    }
  | { readonly kind: 'stopped'; readonly why: string }
  | { readonly kind: 'clock_set'; readonly byMs: number }
  | { readonly kind: 'config'; readonly file: string; readonly changes: readonly ConfigChangeText[] }
  | { readonly kind: 'config_refused'; readonly file: string; readonly faults: readonly string[] }
  /** The operator's files of Envoy: others are in force, or what is wrong with those that are there. */
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
      /** Of the one at fault; absent while it is searched for. */
      readonly name?: string
      readonly error: string
    }
  | ({ readonly kind: 'pinned' | 'unpinned' | 'pin_over' } & PinText)

/** Of one zone, or of its name. */
export type ZoneEvent =
  | ({
      readonly kind: 'answer'
      readonly name: string
      /** Of the answer before; null: nothing was known. */
      readonly before: AnswerText | null
    } & AnswerText)
  /** `why` of learned: a second request (learned), or taken over from an earlier configuration or processor (adopted). */
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
  /** Absent in files of versions that did not keep them. */
  readonly method?: string
  readonly host?: string
  /** Without its query; cut. */
  readonly path?: string
  /** Refusals of this reason and zone since the one before that were left out. */
  readonly leftOut: number
  /** What DNS said. */
  readonly dns?: string
}

export interface AnswerText {
  readonly result: 'positive' | 'nxdomain' | 'nodata' | 'failure'
  /** `10.1.0.7`, or `10.1.0.7:8101` where DNS says the port, too. */
  readonly addresses: readonly string[]
  readonly denied?: readonly string[]
  /** As it came. */
  readonly ttlSeconds?: number
  /** Who said so. */
  readonly nameserver?: string
  /** Of a failure. */
  readonly cause?: string
}

export interface PinText {
  /** As it was named: `12`, `mail/12`. */
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
  /** Goes up by one with each, over restarts too where there is a file: the order in which things happened. */
  readonly seq: number
  /** Wall clock, milliseconds since 1970: it may have been set back between two of them. */
  readonly at: number
  /** Parts were left out, as it was too long. */
  readonly cut?: true
}

export const LANES = ['gateway', 'zones', 'refused'] as const
/** What has room of its own: no flood of one pushes out another. */
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
