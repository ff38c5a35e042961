import { type RejectReason, STATUS_OF_REASON } from '../routing/reject-reason.ts'
import type { Rule } from '../routing/rules.ts'

/** Reasons that Envoy gives by itself: `local_reply_config` of envoy/listener.yaml. */
export type EnvoyReason =
  | 'request_stalled'
  | 'upstream_timeout'
  | 'upstream_unreachable'
  | 'upstream_reset'
  | 'upstream_tls_failed'
  | 'overloaded'
  | 'too_many_addresses'
  | 'loop_detected'
  | 'processor_refused'
  | 'processor_timeout'
  | 'processor_unavailable'
  | 'upgrade_refused'
  | 'body_too_large'
  | 'bad_request'
  | 'headers_too_large'
  | 'rate_limited'
  | 'refused_by_policy'
  | 'gateway_error'

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

const ANY_HEADER = 'the header (rules.header, "server" by default)'

const PROCESSOR_REASONS: Readonly<Record<RejectReason, Text>> = {
  no_rule: {
    cause: 'No rule fits the path and the host of the request.',
    wayOut:
      'Ask "zonegate explain" with the path and the host: it says what each rule wants. Correct the caller, or widen rules.match.',
  },
  method_not_allowed: {
    cause: 'The method is not one that the rule forwards.',
    wayOut: 'Have the caller use a method that the header allow names, or add it to rules.methods.',
  },
  id_missing: {
    cause: 'The request carries no id in any of the places that its rule looks at.',
    wayOut:
      'Ask "zonegate explain" with the whole request: it says for each place why it holds no id. Correct the caller, or rules.id; a body must have the content-type of JSON or of a form.',
  },
  id_invalid: {
    cause:
      'The id stands there more than once, can be read in several ways, does not match rules.idPattern, or makes no host name.',
    wayOut:
      'Ask "zonegate explain" with the whole request: it says what is wrong with the id. Have the caller send one id of letters, digits and hyphens, in one place and one spelling; if the id is valid, widen rules.idPattern.',
  },
  server_header_missing: {
    cause: 'The request carries no id: its id header is absent or empty.',
    wayOut: `Have the caller send ${ANY_HEADER}, and check that no proxy in between removes it.`,
  },
  server_header_invalid: {
    cause:
      'The id header stands there more than once, does not match rules.idPattern, or makes no host name.',
    wayOut: 'Have the caller send one id; if the id is valid, widen rules.idPattern.',
  },
  name_not_found: {
    cause: "A nameserver says that the zone's name does not exist (NXDOMAIN).",
    wayOut:
      'Add the name to DNS, or check rules.host and the search domain if the name looks wrong; once it is there, "zonegate flush NAME" ends the wait for the negative answer.',
  },
  no_address: {
    cause:
      "The zone's name exists, but without an address of the wanted family (NODATA), or none of its SRV records' targets has one.",
    wayOut:
      'Add an A record to the name or to the target, or an AAAA record and dns.family: both; with port: srv, add the SRV record.',
  },
  service_not_offered: {
    cause:
      'The zone\'s SRV record has the target ".": by that the zone says that it does not offer the service.',
    wayOut:
      'Put the receivers into the SRV record; if their port never changes, set it in rules.services instead of srv.',
  },
  nameservers_failed: {
    cause:
      'No nameserver gave an answer within dns.budgetMs, and no earlier answer is young enough to serve.',
    wayOut:
      'Find the failing one with "zonegate status nameservers"; repair it, or set others in resolv.conf or dns.nameservers.',
  },
  address_denied: {
    cause:
      "Every address of the zone's name is one that no request may reach, such as loopback or link-local, or its SRV records lead to ports outside of addresses.ports.",
    wayOut:
      'Correct the record in DNS; if the address or the port is intended, allow it in addresses.allow or addresses.ports.',
  },
  resolver_overloaded: {
    cause: 'As many DNS queries are under way as dns.queriesInFlightMax allows.',
    wayOut:
      'Look for slow nameservers ("zonegate status nameservers") or a flood of unknown ids; if the load is legitimate, raise dns.queriesInFlightMax.',
  },
  lookup_rate_limited: {
    cause:
      'Callers asked for names that were not in use faster than dns.unknownNames allows; names in use still work.',
    wayOut:
      'Look for a scan of random ids and stop it before it reaches the gateway; if the load is legitimate, such as very many zones after a start, raise dns.unknownNames.',
  },
  maintenance: {
    cause: 'An entry of zones puts the zone in maintenance, and has the status and the text.',
    wayOut: 'When the maintenance is over, remove the entry from zones; "zonegate pin" overrides it.',
  },
}

const ENVOY_REASONS: Readonly<Record<EnvoyReason, ReasonText>> = {
  request_stalled: {
    status: '408',
    cause:
      'The request stopped in the middle: the caller sent no more of it, or the zone took no more of it.',
    wayOut:
      "Look at the caller's network and at bytes_received in the access log; the time limits are idle_timeout in envoy/routes.yaml and stream_idle_timeout in envoy/listener.yaml.",
  },
  upstream_timeout: {
    status: '504',
    cause: 'The zone received the request and did not answer within the time that the route allows.',
    wayOut: 'Find out why the zone is slow, or raise per_try_timeout (or timeout) in envoy/routes.yaml.',
  },
  upstream_unreachable: {
    status: '502',
    cause: "Envoy could not connect to any of the zone's addresses.",
    wayOut:
      'Check that the zone listens on the port of rules.services and that no firewall is in between; if the zone has moved, correct its name in DNS.',
  },
  upstream_reset: {
    status: '502',
    cause: 'The zone accepted the connection, then closed it or sent an answer that is not valid HTTP.',
    wayOut:
      "Look into the zone's own log, and whether it expects TLS (curl -k https://ADDRESS/); if it closes idle connections within 1 s, or after each answer without saying so, see upstream_reset in docs/troubleshooting.md.",
  },
  upstream_tls_failed: {
    status: '502',
    cause:
      "The TLS handshake with the zone failed: its certificate has another name, another CA or has expired, it does not accept Envoy's certificate, or it does not speak TLS.",
    wayOut:
      "Read details in Envoy's access log line of the request: it says which. Correct the zone's certificate, or upstream.tls (ca, serverName, cert) in zonegate.yaml.",
  },
  overloaded: {
    status: '503',
    cause:
      'The circuit breaker is open, or the heap is full: the load has reached a limit of envoy/envoy.yaml or envoy/clusters.yaml.',
    wayOut:
      'Find the slow zone ("zonegate status"), or raise circuit_breakers of the cluster zones in envoy/clusters.yaml.',
  },
  too_many_addresses: {
    status: '503',
    cause:
      'The processor is away, so Envoy resolves names itself, and it holds as many as dns.cacheEntriesMax allows. Learned zones still work.',
    wayOut:
      'Look for a scan of ids in the access log, and why the processor is away; if the load is legitimate, raise dns.cacheEntriesMax.',
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
    wayOut:
      'Keep message_timeout in envoy/listener.yaml above dns.budgetMs, and check that the processor gets enough CPU.',
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
  body_too_large: {
    status: '413',
    cause:
      'The body is longer than rules.bodyMaxBytes of its rule, or it has no Content-Length and is longer than Envoy buffers (1 MiB).',
    wayOut:
      'If the id is in the body, raise rules.bodyMaxBytes. Otherwise have the caller send a Content-Length, which lifts this limit, or raise max_request_bytes in envoy/listener.yaml.',
  },
  bad_request: {
    status: '400',
    cause: 'The request is not valid HTTP, or Envoy does not accept it.',
    wayOut: 'Read details of that request_id in the access log, and correct the caller.',
  },
  headers_too_large: {
    status: '431',
    cause:
      'The request has more header lines than max_headers_count, or larger ones than max_request_headers_kb.',
    wayOut: 'Have the caller send fewer or shorter headers, or raise the limit in envoy/listener.yaml.',
  },
  rate_limited: {
    status: '429',
    cause: 'A rate limit that was added to envoy/listener.yaml had no token left for the request.',
    wayOut:
      'Have the caller send fewer requests, or later; if the load is legitimate, raise the token bucket.',
  },
  refused_by_policy: {
    status: '4xx',
    cause: 'A route or an HTTP filter that was added to the files in envoy/ refused the request.',
    wayOut:
      'Read details of that request_id in the access log, and look for that filter or route in envoy/listener.yaml and envoy/routes.yaml.',
  },
  gateway_error: {
    status: '503',
    cause: 'Envoy has no route or no cluster for the request, or failed internally.',
    wayOut:
      'Read details of that request_id in the access log: usually envoy/routes.yaml had a fault when Envoy started, or names a cluster that does not exist.',
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

/** What to do about a refusal by a rule. It names the rule's own header. */
export function wayOutBy(rule: Rule | undefined, reason: Reason): string {
  const { wayOut } = REASONS[reason]
  const [source] = rule?.sources ?? []
  return source?.kind === 'header' ? wayOut.replace(ANY_HEADER, `the header ${source.name}`) : wayOut
}
