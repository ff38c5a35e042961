import { type RejectReason, STATUS_OF_REASON } from '../routing/reject-reason.ts'

/** Reasons that Envoy gives by itself: `local_reply_config` of envoy/envoy.yaml. */
export type EnvoyReason =
  | 'request_stalled'
  | 'upstream_timeout'
  | 'upstream_unreachable'
  | 'upstream_reset'
  | 'overloaded'
  | 'loop_detected'
  | 'processor_refused'
  | 'processor_timeout'
  | 'processor_unavailable'
  | 'upgrade_refused'
  | 'bad_request'

export type Reason = RejectReason | EnvoyReason

export interface ReasonText {
  /** The response's status; `4xx` and the like where it depends. */
  readonly status: string
  /** What happened, in a sentence. */
  readonly cause: string
  /** What to do, in a sentence. */
  readonly wayOut: string
}

type Text = Omit<ReasonText, 'status'>

const PROCESSOR_REASONS: Readonly<Record<RejectReason, Text>> = {
  method_not_allowed: {
    cause: 'The method is not one that is forwarded.',
    wayOut:
      'Have the caller use one of rules.methods; a new method goes there and into the route method_not_allowed of envoy/routes.yaml.',
  },
  server_header_missing: {
    cause: 'The request carries no id: its id header is absent or empty.',
    wayOut:
      'Have the caller send the header (rules.header, "server" by default), and check that no proxy in between removes it.',
  },
  server_header_invalid: {
    cause:
      'The id header stands there more than once, does not match rules.idPattern, or makes no host name.',
    wayOut: 'Have the caller send one id; if it is a good one, widen rules.idPattern.',
  },
  name_not_found: {
    cause: "A nameserver says that the zone's name does not exist (NXDOMAIN).",
    wayOut:
      'Add the name to DNS, or check rules.host and the search domain if the name looks wrong; once it is there, "zonegate flush NAME" ends the wait for the negative answer.',
  },
  no_address: {
    cause: "The zone's name exists, but without an address of the wanted family (NODATA).",
    wayOut: 'Add an A record to the name, or an AAAA record and dns.family: both.',
  },
  nameservers_failed: {
    cause:
      'No nameserver gave an answer within dns.budgetMs, and no earlier answer is young enough to serve.',
    wayOut:
      'See which one fails with "zonegate status nameservers"; mend it, or name others in resolv.conf or dns.nameservers.',
  },
  address_denied: {
    cause:
      "Every address of the zone's name is one that no request may reach, such as loopback or link-local.",
    wayOut:
      'Correct the record in DNS; if the address is meant, let it through in addresses.allow, and in the deny list of envoy/envoy.yaml where the access log has details rbac_access_denied.',
  },
  resolver_overloaded: {
    cause: 'As many DNS queries are under way as dns.queriesInFlightMax allows.',
    wayOut:
      'Look for slow nameservers ("zonegate status nameservers") or a flood of unknown ids; raise dns.queriesInFlightMax if the load is honest.',
  },
  lookup_rate_limited: {
    cause:
      'Names that were not in use were asked for faster than dns.unknownNames allows; those in use go on.',
    wayOut:
      'Look for a scan of random ids and stop it in front; if the load is honest, such as very many zones after a start, raise dns.unknownNames.',
  },
}

const ENVOY_REASONS: Readonly<Record<EnvoyReason, ReasonText>> = {
  request_stalled: {
    status: '408',
    cause:
      'The request stopped in the middle: the caller sent no more of it, or the zone took no more of it.',
    wayOut:
      "Look at the caller's network and at bytes_received in the access log; how long is waited say idle_timeout in envoy/routes.yaml and stream_idle_timeout in envoy/envoy.yaml.",
  },
  upstream_timeout: {
    status: '504',
    cause: 'The zone took the request and was silent for longer than the route allows.',
    wayOut: 'Look why the zone is slow, or raise per_try_timeout (or timeout) in envoy/routes.yaml.',
  },
  upstream_unreachable: {
    status: '502',
    cause: "No connection to any of the zone's addresses could be made.",
    wayOut:
      'Check that the zone listens on the port of rules.services and that no firewall is between; if it moved, correct its name in DNS.',
  },
  upstream_reset: {
    status: '502',
    cause: 'The zone accepted the connection and broke it off before it answered.',
    wayOut:
      "Look into the zone's own log; if its keep-alive is shorter than 4 s, lower idle_timeout of the cluster zones.",
  },
  overloaded: {
    status: '503',
    cause:
      'The circuit breaker is open, or the heap is full: as much is under way as envoy/envoy.yaml allows.',
    wayOut:
      'Find the zone that is slow ("zonegate status"), or raise circuit_breakers of the cluster zones in envoy/envoy.yaml.',
  },
  loop_detected: {
    status: '502',
    cause: "The zone's name leads back to the gateway, or the caller sent the header x-zonegate-route.",
    wayOut:
      "Correct the zone's name in DNS; a receiver that calls the gateway itself must not pass that header on.",
  },
  processor_refused: {
    status: '502',
    cause: "The processor's answer named no address that Envoy may use.",
    wayOut:
      'Run the processor and the files in envoy/ from the same release; "zonegate validate" compares them.',
  },
  processor_timeout: {
    status: '504',
    cause: 'The processor was silent for longer than message_timeout.',
    wayOut: 'Keep message_timeout in envoy/envoy.yaml above dns.budgetMs, and look if the processor has CPU.',
  },
  processor_unavailable: {
    status: '502',
    cause: 'Envoy could not reach the processor, or the processor failed this request.',
    wayOut:
      'Check with "zonegate healthcheck" that it runs, and that Envoy\'s cluster processor has the address of listen.grpc and may open it.',
  },
  upgrade_refused: {
    status: '403',
    cause: 'The request asks for another protocol (Upgrade), and none is supported.',
    wayOut: 'Have the caller send a plain HTTP request.',
  },
  bad_request: {
    status: '4xx',
    cause: 'What arrived is no request that HTTP allows.',
    wayOut: "Look at the access log's details of that request_id, and mend the caller.",
  },
}

/** Every reason that callers and logs can see: what it means, and the way out. */
export const REASONS: Readonly<Record<Reason, ReasonText>> = {
  ...(Object.fromEntries(
    Object.entries(PROCESSOR_REASONS).map(([reason, text]) => [
      reason,
      { status: String(STATUS_OF_REASON[reason as RejectReason]), ...text },
    ]),
  ) as Record<RejectReason, ReasonText>),
  ...ENVOY_REASONS,
}

export function isReason(text: string): text is Reason {
  return Object.hasOwn(REASONS, text)
}
