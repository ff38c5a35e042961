/**
 * Why a request is refused: the closed list that callers see as `reason` and operators in logs. The same words stand in
 * `local_reply_config` of `envoy/listener.yaml`, which makes the body; a word that Envoy doesn't know there becomes a
 * plain `processor_unavailable`.
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
  /** Of a rule that looks at one header and nothing else. */
  server_header_missing: 403,
  server_header_invalid: 403,
  /** NXDOMAIN: the zone's name does not exist. */
  name_not_found: 502,
  /** NODATA: the name exists, without an address; or there is a SRV record, and none of its targets has an address. */
  no_address: 502,
  /** The SRV record's target is ".": the zone's DNS says that the service is not to be had. */
  service_not_offered: 502,
  nameservers_failed: 502,
  /** Every address, or every port of SRV records, is one that no request may reach, see denied-addresses.ts. */
  address_denied: 502,
  /** Too many DNS queries are under way. */
  resolver_overloaded: 502,
  /** Names nobody asked for before have used up what they may cost the nameservers. */
  lookup_rate_limited: 502,
  /** `zones` says so, and may say another status. */
  maintenance: 503,
} as const satisfies Record<RejectReason, 403 | 404 | 405 | 502 | 503>
