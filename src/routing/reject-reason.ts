/**
 * Why a request is refused: the closed list that callers see as `reason` and operators in logs. The same words stand in
 * `local_reply_config` of `envoy/envoy.yaml`, which makes the body; a word that Envoy doesn't know there becomes a
 * plain `processor_unavailable`.
 */
export type RejectReason =
  | 'method_not_allowed'
  | 'server_header_missing'
  | 'server_header_invalid'
  | 'name_not_found'
  | 'no_address'
  | 'nameservers_failed'
  | 'address_denied'
  | 'resolver_overloaded'
  | 'lookup_rate_limited'

export const STATUS_OF_REASON = {
  method_not_allowed: 405,
  server_header_missing: 403,
  server_header_invalid: 403,
  /** NXDOMAIN: the zone's name does not exist. */
  name_not_found: 502,
  /** NODATA: the name exists, without an address. */
  no_address: 502,
  nameservers_failed: 502,
  /** Every address is one that no request may reach, see denied-addresses.ts. */
  address_denied: 502,
  /** Too many DNS queries are under way. */
  resolver_overloaded: 502,
  /** Names nobody asked for before have used up what they may cost the nameservers. */
  lookup_rate_limited: 502,
} as const satisfies Record<RejectReason, 403 | 405 | 502>
