import type { NotLearned } from '../zones/learned-zones.ts'

/** Why requests of a zone that has addresses ask the processor. A closed list: docs/troubleshooting.md has it. */
export type ColdReason =
  | NotLearned
  | 'learning_off'
  | 'no_envoy'
  | 'envoy_files'
  | 'pinned'
  | 'ttl_zero'
  | 'keys_changed'
  | 'being_pushed'
  | 'refused_by_envoy'
  | 'spelling'

interface Text {
  /** Why the zone is cold, in a sentence. */
  readonly cause: string
  /** What to do, in a sentence. */
  readonly wayOut: string
}

export const COLD_REASONS: Readonly<Record<ColdReason, Text>> = {
  not_asked: {
    cause: 'No request was forwarded to it within learned.idleSeconds.',
    wayOut: 'Nothing: its second request makes it learned.',
  },
  asked_once: {
    cause: 'One request was forwarded to it within learned.idleSeconds, and a zone is learned at its second.',
    wayOut: 'Nothing: its next request makes it learned.',
  },
  zones_max: {
    cause:
      'learned.zonesMax zones are learned, and each of them had requests in the last 10 seconds; or twice as many other zones had requests since the last one of this zone.',
    wayOut:
      'Raise learned.zonesMax, with memory for it (docs/capacity.md), or spread the ids over more gateways.',
  },
  learning_off: {
    cause: 'learned.enabled is false.',
    wayOut: 'Set learned.enabled to true.',
  },
  no_envoy: {
    cause: 'No Envoy is connected for zones.',
    wayOut:
      "Look at Envoy's log, and at listen.grpc of zonegate.yaml: Envoy connects to it within 2 seconds of its start.",
  },
  envoy_files: {
    cause: "Envoy's files have a setting that a learned zone could not have, or can't be read.",
    wayOut: 'Run "zonegate validate": it names the file, the line and the field.',
  },
  pinned: {
    cause: 'A virtual host of envoy/routes.yaml has the requests of this id.',
    wayOut: 'Nothing if this is intended; otherwise remove its domain from envoy/routes.yaml.',
  },
  ttl_zero: {
    cause: 'DNS gives its addresses with a TTL of 0: each request asks a nameserver.',
    wayOut: 'Give the record a TTL.',
  },
  keys_changed: {
    cause: 'The rules have changed, and some requests still come through the listener of the old rules.',
    wayOut:
      'Wait some seconds until Envoy has the new listener, and until clients have opened new connections. If "zonegate status" says that Envoy refuses the listener, correct envoy/listener.yaml.',
  },
  being_pushed: {
    cause: 'It is learned, and this Envoy has not acknowledged its cluster, its addresses and its route yet.',
    wayOut: 'Wait a few seconds.',
  },
  refused_by_envoy: {
    cause: 'It is learned, and this Envoy refuses its cluster, its addresses or its route.',
    wayOut: 'Read LAST NACK of "zonegate status envoys", and correct what it names in envoy/.',
  },
  spelling: {
    cause: 'Envoy does not read an id that is written like this one, so such a request is always cold.',
    wayOut:
      'Have the caller write the id plainly (docs/configuration.md, "What Envoy decides alone", has the plain spelling of each place).',
  },
}

export function isColdReason(text: string): text is ColdReason {
  return Object.hasOwn(COLD_REASONS, text)
}
