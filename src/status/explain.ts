import { type Addresses, type Answer, areEndpoints, type Endpoint, type Try } from '../dns/answer.ts'
import type { Explanation } from '../dns/dns.ts'
import { isService } from '../dns/service-resolver.ts'
import { utcText } from '../history/text.ts'
import { authorityOf, decide, insteadOf, pinnedAnswer } from '../routing/decision.ts'
import {
  isZone,
  type RequestHead,
  type Rule,
  type Rules,
  ruleOf,
  type Zone,
  zoneOf,
} from '../routing/rules.ts'
import type { PinnedBy, SaidOfZones } from '../routing/said.ts'
import { COLD_REASONS, type ColdReason } from './cold-reasons.ts'
import { type ExplainedRules, explainRules, type Step } from './explain-rules.ts'
import { REASONS, type Reason, wayOutBy } from './reasons.ts'
import { type DescribedRequest, requestOf } from './request-description.ts'
import { addressesIn, addressesOf, saidState, stateOf, type ZoneState } from './status.ts'
import type { ZoneSums } from './zone-activity.ts'

/** Where a request would go now, and why. */
export interface Explained extends Pick<ExplainedRules, 'rule' | 'id' | 'steps'> {
  /** The request as it was described, before its ids are put in place. */
  readonly request: {
    readonly method: string
    readonly authority: string
    readonly path: string
    readonly ids: readonly string[]
    readonly bodyOctets: number
  }
  readonly zone: { readonly service: string; readonly id: string; readonly name: string } | null
  /** How Envoy reaches the zone's receivers; absent: HTTP/1.1 in plain text. */
  readonly upstream?: { readonly http: 1 | 2; readonly tls: { readonly serverName: string } | null }
  readonly dns: ExplainedDns | null
  readonly decision:
    | { readonly result: 'forward'; readonly authorities: readonly string[] }
    | {
        readonly result: 'refuse'
        readonly reason: Reason
        readonly status: number
        readonly cause: string
        readonly wayOut: string
      }
  /** Where the zone's requests go on each Envoy; empty without a running processor. */
  readonly envoys: readonly ExplainedEnvoy[]
}

export interface ExplainedDns {
  /** What a request gets now: from the cache, else from the nameservers. */
  readonly state: ZoneState
  readonly addresses: readonly string[]
  /** The same with port, priority and weight, where SRV records give them. */
  readonly endpoints?: readonly Endpoint[]
  readonly denied: readonly string[]
  readonly ttlSecondsLeft: number | null
  readonly fromCache: boolean
  readonly tries: readonly Try[]
  /** What the nameservers say at this moment. */
  readonly nameserversSay: ZoneState
}

export interface ExplainedEnvoy {
  readonly envoy: string
  /** `hot`: routed inside this Envoy. `cold`: this Envoy asks the processor. */
  readonly route: 'hot' | 'cold'
  /** Why it is cold; absent where it is hot. */
  readonly reason?: ColdReason
  /** The cause by name: a virtual host, a line of a file, Envoy's error message. */
  readonly detail?: string | undefined
}

export interface ExplainSeams {
  readonly rules: Rules
  readonly search: string
  /** Pins, merges, maintenance and fallbacks; absent: there are none. */
  readonly said?: SaidOfZones
  /** Asks the nameservers, and tells what the cache has beside their answer. */
  readonly explainName: (name: string) => Promise<Explanation>
  /** The request's route on each connected Envoy. Null: unknown, because no processor is asked. */
  readonly envoys: ((zone: Zone, state: ZoneState, head: RequestHead) => readonly ExplainedEnvoy[]) | null
  /** The zone's requests and errors of the last five minutes; absent or null: unknown. */
  readonly recent?: (zone: Zone) => Pick<ZoneSums, 'requests' | 'errors'> | null
  /** `IP:port` of Envoy's admin page, as seen from Envoy's machine. Absent: that of `envoy/envoy.yaml` as delivered. */
  readonly envoyAdmin?: string | undefined
}

/** Decides a request as the processor would, and explains each step. It always asks the nameservers, too. */
export async function explain(described: DescribedRequest, seams: ExplainSeams): Promise<Explained> {
  const { rules, search, said } = seams
  const head = requestOf(described, rules)
  const zone = zoneOf(head, rules, search, said)
  const explained = explainRules(head, rules, search, zone)
  const common = { request: requestText(described), rule: explained.rule, id: explained.id }
  if (!isZone(zone) || explained.isTooLarge) {
    const reason = isZone(zone) || explained.isTooLarge ? 'body_too_large' : zone.reason
    return {
      ...common,
      ...refusal(reason, explained.steps, { rule: ruleOf(head, rules) }),
      zone: null,
      dns: null,
      envoys: [],
    }
  }
  return { ...common, ...(await explainZone(head, zone, explained, seams)) }
}

type ExplainedZone = Omit<Explained, 'request' | 'rule' | 'id'>

async function explainZone(
  head: RequestHead,
  zone: Zone,
  { steps: before }: Pick<ExplainedRules, 'steps'>,
  seams: ExplainSeams,
): Promise<ExplainedZone> {
  const steps = [...before, ...saidSteps(zone)]
  const named = { service: zone.service.name, id: zone.id, name: zone.name }
  if (zone.said?.maintenance !== undefined) {
    const { status } = zone.said.maintenance
    return { ...refusal('maintenance', steps, { ownStatus: status }), zone: named, dns: null, envoys: [] }
  }
  const pinned = pinnedAnswer(zone)
  if (pinned !== null) return explainAnswer(head, zone, pinned, { steps, dns: null }, seams)
  const { answer: said, tries, cached } = await seams.explainName(zone.name)
  const answer = cached ?? said
  const found = {
    steps: [...steps, ...dnsSteps(answer, cached, said, tries)],
    dns: explainedDns(answer, cached, said, tries),
  }
  const { rules, search, said: saidOfZones } = seams
  const other = answer.kind === 'nxdomain' && saidOfZones ? insteadOf(zone, rules, search, saidOfZones) : null
  return other === null
    ? explainAnswer(head, zone, answer, found, seams)
    : explainZone(head, other, { steps: [...found.steps, insteadStep(zone, other, saidOfZones)] }, seams)
}

function explainAnswer(
  head: RequestHead,
  zone: Zone,
  answer: Answer,
  { steps, dns }: Pick<Explained, 'steps' | 'dns'>,
  seams: ExplainSeams,
): ExplainedZone {
  const decision = decide(zone, answer, 0)
  const state = saidState(zone.said) ?? stateOf(answer)
  // A fallback is a decision of the processor, so the request asks it even if the fallback zone is hot.
  const envoys = zone.insteadOf === undefined ? (seams.envoys?.(zone, state, head) ?? []) : []
  const common = { zone: { service: zone.service.name, id: zone.id, name: zone.name }, dns, envoys }
  if (decision.kind === 'reject') return { ...refusal(decision.reason, steps), ...common }
  const addresses = answer.kind === 'positive' ? usedFirst(answer.addresses) : []
  const authorities = addresses.map((address) => authorityOf(address, zone.service.port))
  return {
    steps: [
      ...steps,
      { step: 'decision', ok: true, text: `forward to ${oneOf(authorities, addresses)}${reachText(zone)}` },
      ...(seams.envoys === null || zone.insteadOf !== undefined ? [] : envoySteps(envoys)),
      ...errorSteps(zone, seams),
      ...healthSteps(zone, authorities, envoys, seams),
    ],
    decision: { result: 'forward', authorities },
    ...upstreamOf(zone),
    ...common,
  }
}

/** What `zones` and pins say of the zone, and who pinned it. */
function saidSteps({ id, service, said }: Zone): Step[] {
  const { merged, pinned, maintenance } = said ?? {}
  const steps: Step[] = []
  const add = (text: string, ok = true): number => steps.push({ step: 'zones', ok, text })
  if (merged !== undefined)
    add(`${JSON.stringify(id)} is merged into ${JSON.stringify(merged.id)} (${merged.key})`)
  if (maintenance !== undefined)
    add(
      `in maintenance (${maintenance.key}): ${maintenance.status}, ${JSON.stringify(maintenance.text)}`,
      false,
    )
  else if (pinned !== undefined) {
    const to = pinned.addresses.map((address) => authorityOf(address, service.port)).join(', ')
    const denied =
      pinned.denied.length === 0 ? '' : `; denied by policy: ${pinned.denied.join(', ')} (addresses.allow)`
    add(`pinned to ${to || 'no address'}${denied}, ${pinnedByText(pinned.by)}; DNS is not asked`, to !== '')
  }
  return steps
}

export function pinnedByText(by: PinnedBy): string {
  if ('key' in by) return `by ${by.key}`
  return `by ${by.who} until ${utcText(by.untilMs)}, because ${JSON.stringify(by.because)}`
}

/** The id is not in DNS, and the fallback of `zones` has its requests. */
export function insteadStep({ id, service }: Zone, other: Zone, said: SaidOfZones | undefined): Step {
  const text = `${JSON.stringify(id)} is not in DNS; ${said?.fallbackOf(service)?.key} sends its requests to ${JSON.stringify(other.id)} (${other.name}), through the processor`
  return { step: 'zones', ok: true, text }
}

/** Without headers, which may hold secrets. The steps show the header that decides. */
function requestText({ method, authority, path, ids, body }: DescribedRequest): Explained['request'] {
  return { method, authority, path, ids, bodyOctets: body?.length ?? 0 }
}

/** @param ownStatus replaces the reason's status. @param rule the one that refuses the request */
function refusal(
  reason: Reason,
  steps: readonly Step[],
  { ownStatus, rule }: { readonly ownStatus?: number; readonly rule?: Rule | undefined } = {},
): Pick<Explained, 'steps' | 'decision'> {
  const { status: text, cause } = REASONS[reason]
  const status = ownStatus ?? Number(text)
  return {
    steps: [...steps, { step: 'decision', ok: false, text: `refuse with ${status} ${reason}` }],
    decision: { result: 'refuse', reason, status, cause, wayOut: wayOutBy(rule, reason) },
  }
}

function dnsSteps(answer: Answer, cached: Answer | null, said: Answer, tries: readonly Try[]): Step[] {
  const steps: Step[] = [
    {
      step: 'cache',
      ok: true,
      text:
        cached === null
          ? 'not in the cache: a request waits for a nameserver'
          : `in the cache: ${answerText(cached)}`,
    },
  ]
  for (const { nameserver, type, transport, outcome, milliseconds } of tries) {
    const ok = outcome === 'NOERROR' || outcome === 'NXDOMAIN'
    const text = `${nameserver} asked for ${type} over ${transport}: ${outcome} in ${milliseconds.toFixed(1)} ms`
    steps.push({ step: 'query', ok, text })
  }
  steps.push({ step: 'answer', ok: said.kind === 'positive', text: `nameservers say: ${answerText(said)}` })
  if (answer.kind === 'positive') {
    const policy = isService(answer.name) ? 'addresses.allow, addresses.ports' : 'addresses.allow'
    const denied =
      answer.denied.length === 0 ? '' : `; denied by policy: ${answer.denied.join(', ')} (${policy})`
    const ok = answer.addresses.length > 0
    steps.push({
      step: 'addresses',
      ok,
      text: `${ok ? describedAddresses(answer.addresses).join(', ') : 'none to use'}${denied}`,
    })
  }
  return steps
}

/** A DNS answer in a few words. */
function answerText(answer: Answer): string {
  switch (answer.kind) {
    case 'positive': {
      const count = answer.addresses.length
      const addresses = `${count} ${count === 1 ? 'address' : 'addresses'}`
      if (answer.stale) return `${addresses}, stale: nameservers fail, the last answer serves on`
      return answer.ttlSeconds === 0
        ? `${addresses} with TTL 0: each request asks a nameserver, and the zone is never learned`
        : `${addresses}, fresh for ${answer.ttlSeconds} s`
    }
    case 'nxdomain':
      return `the name does not exist (NXDOMAIN), for ${answer.ttlSeconds} s`
    case 'nodata':
      if (answer.notOffered) return `the service is not offered (SRV target "."), for ${answer.ttlSeconds} s`
      return isService(answer.name)
        ? `no SRV record, or no address of its targets (NODATA), for ${answer.ttlSeconds} s`
        : `the name has no address (NODATA), for ${answer.ttlSeconds} s`
    case 'failure':
      return {
        nameservers_failed: 'no usable answer',
        timeout: 'no answer in time',
        overloaded: 'too many queries',
        rate_limited: 'too many names that are not in use',
        invalid_name: 'no domain name',
      }[answer.cause]
  }
}

function explainedDns(
  answer: Answer,
  cached: Answer | null,
  said: Answer,
  tries: readonly Try[],
): ExplainedDns {
  return {
    state: stateOf(answer),
    ...addressesOf(addressesIn(answer)),
    denied: answer.kind === 'positive' ? answer.denied : [],
    ttlSecondsLeft: answer.kind === 'failure' || stateOf(answer) === 'stale' ? null : answer.ttlSeconds,
    fromCache: cached !== null,
    tries,
    nameserversSay: stateOf(said),
  }
}

/** Each address, with the SRV record that gave it. */
function describedAddresses(addresses: Addresses): readonly string[] {
  if (!areEndpoints(addresses)) return addresses
  return addresses.map((endpoint) => {
    const { srv } = endpoint
    const authority = authorityOf(endpoint, endpoint.port)
    return srv === undefined
      ? authority
      : `${authority} (${srv.target}, priority ${srv.priority}, weight ${srv.weight})`
  })
}

function upstreamOf({ service: { upstream }, serverName = '' }: Zone): Pick<Explained, 'upstream'> {
  if (upstream === undefined) return {}
  return { upstream: { http: upstream.http, tls: upstream.tls && { serverName } } }
}

/** The protocol to the receivers; empty for HTTP/1.1 in plain text. */
export function reachText({ service: { upstream }, serverName }: Zone): string {
  if (upstream === undefined) return ''
  const { tls, http } = upstream
  if (tls === null) return `, by HTTP/${http}`
  const ca = tls.ca ?? "the CAs of Envoy's machine"
  const client = tls.client === null ? '' : `, with ${tls.client.cert} as its own`
  return `, by HTTP/${http} and TLS: a certificate of ${ca} for ${serverName}${client}`
}

function usedFirst(addresses: Addresses): Addresses {
  return areEndpoints(addresses) ? addresses.filter(({ priority }) => priority === 0) : addresses
}

function oneOf(authorities: readonly string[], addresses: Addresses): string {
  if (authorities.length === 1) return String(authorities[0])
  return `${authorities.join(' or ')}, ${areEndpoints(addresses) ? 'by weight' : 'in turn'}`
}

/** An address from DNS does not mean that the zone answers. */
function errorSteps(zone: Zone, { recent }: ExplainSeams): Step[] {
  const { requests, errors } = recent?.(zone) ?? { requests: 0, errors: 0 }
  if (errors === 0) return []
  const text = `in the last 5 minutes: ${errors} tries got a 5xx, no answer or no connection, and ${requests} requests were sent; Envoy's access log has the reason of each`
  return [{ step: 'errors', ok: false, text }]
}

/** Load reports don't say which address fails or which one Envoy skips, so this names the command that asks Envoy. */
function healthSteps(
  zone: Zone,
  authorities: readonly string[],
  envoys: readonly ExplainedEnvoy[],
  { recent, envoyAdmin = '127.0.0.1:9901' }: ExplainSeams,
): Step[] {
  const hasFailed = (recent?.(zone)?.errors ?? 0) > 0
  if (!envoys.some(({ route }) => route === 'hot') || (authorities.length < 2 && !hasFailed)) return []
  const command = `curl -s ${envoyAdmin}/clusters | grep -E '^${zone.service.name}/${zone.id}::.*(health_flags|cx_connect_fail)'`
  return [
    { step: 'health', ok: true, text: `Envoy knows which address fails and which one it skips: ${command}` },
  ]
}

function envoySteps(envoys: readonly ExplainedEnvoy[]): Step[] {
  if (envoys.length === 0)
    return [
      { step: 'envoy', ok: true, text: `cold on every Envoy, no_envoy: ${COLD_REASONS.no_envoy.cause}` },
    ]
  return envoys.map(({ envoy, route, reason, detail }) => ({
    step: 'envoy',
    ok: reason !== 'refused_by_envoy',
    text:
      reason === undefined
        ? `${envoy}: ${route}, routed inside Envoy`
        : `${envoy}: ${route}, asks the processor, ${reason}: ${COLD_REASONS[reason].cause}${detail === undefined ? '' : ` (${detail})`}`,
  }))
}
