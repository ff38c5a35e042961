/**
 * Why the processor refuses a request: a closed list that callers see as `reason` and operators see in logs.
 * `local_reply_config` of `envoy/listener.yaml` makes the body and needs the same words; it turns an unknown word into
 * `processor_unavailable`.
 */
export type RejectReason =
  | 'no_rule'
  | 'method_not_allowed'
  | 'id_missing'
  | 'id_invalid'
  | 'server_header_missing'
  | 'server_header_invalid'
  | 'name_not_found'
  | 'no_address'
  | 'service_not_offered'
  | 'nameservers_failed'
  | 'address_denied'
  | 'resolver_overloaded'
  | 'lookup_rate_limited'
  | 'maintenance'

export const STATUS_OF_REASON = {
  no_rule: 404,
  method_not_allowed: 405,
  id_missing: 403,
  id_invalid: 403,
  /** For rules whose only source is one header. */
  server_header_missing: 403,
  server_header_invalid: 403,
  /** NXDOMAIN: the zone's name does not exist. */
  name_not_found: 502,
  /** NODATA: the name exists, without an address; or an SRV record exists, and none of its targets has an address. */
  no_address: 502,
  /** The SRV record's target is ".": the zone does not offer the service (RFC 2782). */
  service_not_offered: 502,
  nameservers_failed: 502,
  /** No request may reach any of the addresses or SRV ports, see denied-addresses.ts. */
  address_denied: 502,
  /** DNS queries in flight are at `dns.queriesInFlightMax`. */
  resolver_overloaded: 502,
  /** New names have used up their rate of queries, `dns.unknownNames`. */
  lookup_rate_limited: 502,
  /** By `zones`, which may set another status. */
  maintenance: 503,
} as const satisfies Record<RejectReason, 403 | 404 | 405 | 502 | 503>
