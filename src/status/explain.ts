import type { Answer, Try } from '../dns/answer.ts'
import type { Explanation } from '../dns/dns.ts'
import { authorityOf, decide } from '../routing/decision.ts'
import { type RejectReason, STATUS_OF_REASON } from '../routing/reject-reason.ts'
import { type RequestHead, type Rules, type Zone, zoneOf } from '../routing/rules.ts'
import { REASONS } from './reasons.ts'
import { stateOf, type ZoneState } from './status.ts'

/** One step of a decision, in words. `ok: false` is where it ends, or what went wrong on the way. */
export interface Step {
  readonly step:
    | 'method'
    | 'id'
    | 'service'
    | 'name'
    | 'cache'
    | 'query'
    | 'answer'
    | 'addresses'
    | 'decision'
    | 'envoy'
  readonly ok: boolean
  readonly text: string
}

/** Why a request would go where it goes. */
export interface Explained {
  readonly request: RequestHead
  readonly steps: readonly Step[]
  readonly zone: { readonly service: string; readonly id: string; readonly name: string } | null
  readonly dns: ExplainedDns | null
  readonly decision:
    | { readonly result: 'forward'; readonly authorities: readonly string[] }
    | {
        readonly result: 'refuse'
        readonly reason: RejectReason
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
}

export interface ExplainSeams {
  readonly rules: Rules
  readonly search: string
  /** Asks the nameservers, past the cache. */
  readonly explainName: (name: string) => Promise<Explanation>
  /** Of a zone, on each connected Envoy. */
  readonly envoys: (zone: Zone) => readonly ExplainedEnvoy[]
}

/** Walks a request through the decision, past the cache, and tells every step. */
export async function explain(head: RequestHead, seams: ExplainSeams): Promise<Explained> {
  const { rules, search } = seams
  const zone = zoneOf(head, rules, search)
  if (typeof zone === 'string') {
    return { ...refusal(head, zone, ruleSteps(head, rules, search, zone)), zone: null, dns: null, envoys: [] }
  }
  const { answer: said, tries, cached } = await seams.explainName(zone.name)
  const answer = cached ?? said
  const envoys = seams.envoys(zone)
  const decision = decide(zone, answer, 0)
  const dns = explainedDns(answer, cached, said, tries)
  const steps = [...ruleSteps(head, rules, search, zone), ...dnsSteps(answer, cached, said, tries)]
  const common = { zone: { service: zone.service.name, id: zone.id, name: zone.name }, dns, envoys }
  if (decision.kind === 'reject') return { ...refusal(head, decision.reason, steps), ...common }
  const authorities = dns.addresses.map((address) => authorityOf(address, zone.service.port))
  return {
    request: head,
    steps: [
      ...steps,
      { step: 'decision', ok: true, text: `forward to ${oneOf(authorities)}` },
      ...envoys.map(envoyStep),
    ],
    decision: { result: 'forward', authorities },
    ...common,
  }
}

function refusal(
  head: RequestHead,
  reason: RejectReason,
  steps: readonly Step[],
): Pick<Explained, 'request' | 'steps' | 'decision'> {
  const status = STATUS_OF_REASON[reason]
  const { cause, wayOut } = REASONS[reason]
  return {
    request: head,
    steps: [...steps, { step: 'decision', ok: false, text: `refuse with ${status} ${reason}` }],
    decision: { result: 'refuse', reason, status, cause, wayOut },
  }
}

/** The rule's steps as far as the request came. */
function ruleSteps(head: RequestHead, rules: Rules, search: string, outcome: Zone | RejectReason): Step[] {
  const methods = [...rules.methods].join(', ')
  const shown = head.ids.map((id) => JSON.stringify(id)).join(' and ')
  if (outcome === 'method_not_allowed')
    return [{ step: 'method', ok: false, text: `${head.method} is not in rules.methods (${methods})` }]
  const method: Step = { step: 'method', ok: true, text: `${head.method} is in rules.methods` }
  if (outcome === 'server_header_missing')
    return [method, { step: 'id', ok: false, text: `no header "${rules.header}" with an id` }]
  if (typeof outcome === 'string')
    return [method, { step: 'id', ok: false, text: `${rules.header}: ${shown} ${whyInvalid(head, rules)}` }]
  const { service, name } = outcome
  const path = head.path.split('?', 1)[0] ?? ''
  const byPath = rules.serviceByPath.has(path)
  return [
    method,
    { step: 'id', ok: true, text: `${rules.header}: ${shown} matches rules.idPattern` },
    {
      step: 'service',
      ok: true,
      text: byPath
        ? `${path} belongs to the service ${service.name}, port ${service.port}`
        : `${path} belongs to no other service: ${service.name}, port ${service.port}`,
    },
    { step: 'name', ok: true, text: `${name} (rules.host, search domain ${search})` },
  ]
}

function whyInvalid({ ids }: RequestHead, rules: Rules): string {
  const [id = ''] = ids
  if (ids.length > 1 || id.includes(',')) return 'are more than one id'
  if (!rules.idPattern.test(id)) return `does not match rules.idPattern ${rules.idPattern.source}`
  return `makes no host name of ${rules.host}`
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
    const denied =
      answer.denied.length === 0 ? '' : `; denied by policy: ${answer.denied.join(', ')} (addresses.allow)`
    const ok = answer.addresses.length > 0
    steps.push({
      step: 'addresses',
      ok,
      text: `${ok ? answer.addresses.join(', ') : 'none to use'}${denied}`,
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
      return answer.stale
        ? `${addresses}, stale: nameservers fail, the last answer serves on`
        : `${addresses}, fresh for ${answer.ttlSeconds} s`
    }
    case 'nxdomain':
      return `the name does not exist (NXDOMAIN), for ${answer.ttlSeconds} s`
    case 'nodata':
      return `the name has no address (NODATA), for ${answer.ttlSeconds} s`
    case 'failure':
      return {
        nameservers_failed: 'no usable answer',
        timeout: 'none in time',
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
    addresses: answer.kind === 'positive' ? answer.addresses : [],
    denied: answer.kind === 'positive' ? answer.denied : [],
    ttlSecondsLeft: answer.kind === 'failure' || stateOf(answer) === 'stale' ? null : answer.ttlSeconds,
    fromCache: cached !== null,
    tries,
    nameserversSay: stateOf(said),
  }
}

function oneOf(authorities: readonly string[]): string {
  return authorities.length === 1 ? String(authorities[0]) : `${authorities.join(' or ')}, in turn`
}

function envoyStep({ envoy, route }: ExplainedEnvoy): Step {
  const text = route === 'hot' ? 'hot, routed inside Envoy' : 'cold, asks the processor'
  return { step: 'envoy', ok: true, text: `${envoy}: ${text}` }
}
