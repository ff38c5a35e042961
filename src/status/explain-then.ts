import { isService } from '../dns/service-resolver.ts'
import type { Recorded, RefusedEvent } from '../history/event.ts'
import type { History } from '../history/history.ts'
import { type GatewayThen, gatewayAt, type NameThen, nameAt, startAfter, upTo } from '../history/past.ts'
import { collect, isSameZone } from '../history/read-history.ts'
import { answerText, secondsText, sourceText, textOf } from '../history/text.ts'
import { authorityOf, insteadOf } from '../routing/decision.ts'
import { isZone, type Rule, type Rules, ruleOf, type Zone, zoneOf } from '../routing/rules.ts'
import type { SaidOfZones } from '../routing/said.ts'
import { insteadStep, pinnedByText } from './explain.ts'
import { explainRules } from './explain-rules.ts'
import { isReason, REASONS, wayOutBy } from './reasons.ts'
import { type DescribedRequest, requestOf } from './request-description.ts'

/** Where a request would have gone at a moment in the past. Times are milliseconds since 1970. */
export interface ExplainedThen {
  readonly at: number
  readonly request: {
    readonly method: string
    readonly authority: string
    readonly path: string
    readonly ids: readonly string[]
  }
  readonly rule: string | null
  readonly zone: { readonly service: string; readonly id: string; readonly name: string } | null
  readonly config: { readonly file: string; readonly since: number } | null
  readonly decision: DecisionThen
  readonly steps: readonly StepThen[]
}

/** How a request passed Envoy. `hot`: Envoy had the route. `cold`: Envoy asked the processor. `fallback`: Envoy resolved the name. */
export type PathThen = 'hot' | 'cold' | 'fallback'

export function isPathThen(text: unknown): text is PathThen {
  return text === 'hot' || text === 'cold' || text === 'fallback'
}

export type DecisionThen =
  | {
      readonly result: 'forward'
      readonly addresses: readonly string[]
      readonly path: PathThen
    }
  | {
      readonly result: 'refuse'
      readonly reason: string
      readonly status: string
      readonly cause: string
      readonly wayOut: string
    }
  /** The history has too little of that time. */
  | { readonly result: 'unknown' }

export interface StepThen {
  readonly step: string
  readonly ok: boolean
  readonly text: string
  /** When it happened or began; absent where that is unknown or does not matter. */
  readonly at?: number | undefined
}

export interface ThenSeams {
  readonly history: History
  /** The rules and pins in force at that time; null: this version can't run that configuration. */
  readonly world: (then: GatewayThen) => ThenWorld | null
}

export interface ThenWorld {
  readonly rules: Rules
  readonly said: SaidOfZones
  readonly search: string
  readonly staleMs: number
}

/** The history keeps one refusal of a zone a minute (refusal-sample.ts). */
const SAMPLED_MS = 60_000
const IN_THE_LOG = "Envoy's access log has the address"
const RESOLVED_BY_ENVOY = `Envoy resolved the name itself; ${IN_THE_LOG}, or upstream_unreachable if DNS had none`

/** @param path how the request went, where its line of the access log says so; else it follows from the zone at that moment */
export async function explainThen(
  described: DescribedRequest,
  at: number,
  { history, world }: ThenSeams,
  path?: PathThen,
): Promise<ExplainedThen> {
  const { events: gateway } = await collect(history, { lanes: ['gateway'] }, () => true)
  const then = gatewayAt(gateway, at)
  const { method, authority, ids } = described
  const common = {
    at,
    request: { method, authority, path: described.path, ids },
    config: then.config && { file: then.config.file, since: then.config.since },
  }
  const before = gatewaySteps(then)
  const by = world(then)
  if (by === null || then.processor.state === 'unknown')
    return { ...common, rule: null, zone: null, decision: { result: 'unknown' }, steps: before }
  const head = requestOf(described, by.rules)
  const zone = zoneOf(head, by.rules, by.search, by.said)
  const { rule, steps: ruleSteps } = explainRules(head, by.rules, by.search, zone)
  const steps: StepThen[] = [...before, ...ruleSteps]
  if (!isZone(zone))
    return { ...common, rule, zone: null, ...refused(zone.reason, steps, ruleOf(head, by.rules)) }
  const untilSeq = startAfter(gateway, at)?.seq
  return { ...common, rule, ...(await zoneThen({ zone, then, by, at, untilSeq, path, history }, steps)) }
}

interface Asked {
  readonly zone: Zone
  readonly then: GatewayThen
  readonly by: ThenWorld
  readonly at: number
  /** Of the event with which the next processor began. */
  readonly untilSeq: number | undefined
  /** How the request went; undefined: the caller does not know. */
  readonly path: PathThen | undefined
  readonly history: History
}

interface Found extends Asked {
  /** Events of the zone and its name. */
  readonly own: readonly Recorded[]
}

type Outcome = Pick<ExplainedThen, 'decision' | 'steps'>
type ZoneOutcome = Outcome & Pick<ExplainedThen, 'zone'>

async function zoneThen(asked: Asked, before: readonly StepThen[]): Promise<ZoneOutcome> {
  const { zone, then, at, by, history } = asked
  const own = await eventsOf(zone, history)
  const found = { ...asked, own }
  const learned = learnedAt(found)
  const known = found.path ?? (learned === null ? undefined : 'hot')
  const path = known ?? 'cold'
  const name = nameAt(own, at, startSeq(then), found.untilSeq)
  const maintenance = zone.said?.maintenance
  const pinned = zone.said?.pinned
  // Only the processor's refusals are in the history.
  const last = path === 'cold' ? lastRefusal(found) : undefined
  const isNamed = pinned === undefined && maintenance === undefined
  // Without an answer in the history, the refusal says what DNS said.
  const isTold = name.answer === null && last !== undefined
  const steps = [...before, ...(isNamed && !isTold ? nameSteps(zone, name, then) : [])]
  if (path === 'hot')
    steps.push(step('learned', true, 'Envoy routed it by itself (hot)', learned ?? undefined))
  else if (path === 'cold' && zone.insteadOf === undefined)
    steps.push(step('learned', true, 'Envoy asked the processor for each request (cold)'))
  if (last !== undefined) steps.push(step('refused', false, textOf(last), last.at))
  if (zone.service.upstream?.tls)
    steps.push(step('tls', true, "by TLS; explain does not check the zone's certificate"))
  const named = { service: zone.service.name, id: zone.id, name: zone.name }
  const done = (outcome: Outcome & Partial<ZoneOutcome>): ZoneOutcome => ({
    zone: named,
    ...outcome,
    steps: [...outcome.steps, ...nextSteps(name)],
  })
  const away = then.processor.state === 'away' && known === undefined ? then.processor : null
  if (path === 'fallback' || away?.fallback === true)
    return done(forwarded([], 'fallback', steps, RESOLVED_BY_ENVOY))
  if (away !== null) return done(refused('processor_unavailable', steps))
  if (maintenance !== undefined) return done(refused('maintenance', steps))
  if (pinned !== undefined) {
    const { addresses, by } = pinned
    const text = `pinned ${pinnedByText(by)}; nobody asked DNS`
    steps.push(step('pin', addresses.length > 0, text))
    if (addresses.length === 0) return done(refused('address_denied', steps))
    const authorities = addresses.map((each) => authorityOf(each, zone.service.port))
    return done(forwarded(authorities, path, steps))
  }
  if (path === 'hot') return done(byEnvoy(zone, name, steps))
  const other = name.answer?.result === 'nxdomain' ? insteadOf(zone, by.rules, by.search, by.said) : null
  if (other === null) return done(byName(found, name, path, steps, last))
  // Only the processor sends a request to another zone.
  return done(
    await zoneThen({ ...asked, zone: other, path: 'cold' }, [...steps, insteadStep(zone, other, by.said)]),
  )
}

/** A hot request went to the addresses that Envoy had, even if DNS had just lost the name. It never goes to another zone. */
function byEnvoy(zone: Zone, { answer, addresses }: NameThen, steps: readonly StepThen[]): Outcome {
  const isCurrent = answer?.result === 'positive' && answer.addresses.length > 0
  const note = addresses.length === 0 ? IN_THE_LOG : 'Envoy still had the addresses of the answer before'
  return forwarded(authoritiesOf(zone, addresses), 'hot', steps, isCurrent ? undefined : note)
}

function authoritiesOf({ name, service }: Zone, addresses: readonly string[]): readonly string[] {
  return isService(name) ? addresses : addresses.map((each) => authorityOf(each, service.port))
}

function byName(
  { zone, by, at }: Found,
  { answer, lastGood }: NameThen,
  path: PathThen,
  steps: readonly StepThen[],
  last: RefusedEvent | undefined,
): Outcome {
  switch (answer?.result) {
    case 'positive':
      return answer.addresses.length === 0
        ? refused('address_denied', steps)
        : forwarded(authoritiesOf(zone, answer.addresses), path, steps)
    case 'nxdomain':
      return refused('name_not_found', steps)
    case 'nodata':
      return refused('no_address', steps)
    case 'failure':
      return lastGood !== null && at - lastGood.failingSince < by.staleMs
        ? forwarded(
            authoritiesOf(zone, lastGood.addresses),
            path,
            steps,
            'stale: nameservers failed, so the last answer served on',
          )
        : refused('nameservers_failed', steps)
    default:
      return last === undefined ? { decision: { result: 'unknown' }, steps } : refused(last.reason, steps)
  }
}

/** When Envoy began to route the zone by itself; null: it did not. */
function learnedAt({ zone, own, at, then, untilSeq = Number.POSITIVE_INFINITY }: Found): number | null {
  const key = `${zone.service.name}/${zone.id}`
  const changes = own.filter(
    (event) =>
      (event.kind === 'learned' || event.kind === 'forgotten') &&
      isSameZone(event.zone, key) &&
      event.seq > startSeq(then) &&
      event.seq < untilSeq,
  )
  const last = upTo(changes, at).at(-1)
  return last?.kind === 'learned' ? last.at : null
}

/** The event with which the processor of that time began, knowing nothing. */
function startSeq({ processor }: GatewayThen): number {
  return processor.state === 'serving' ? processor.seq : 0
}

function lastRefusal({ own, at }: Found): (RefusedEvent & { at: number }) | undefined {
  const last = upTo(
    own.filter(({ kind }) => kind === 'refused'),
    at,
  ).at(-1)
  return last?.kind === 'refused' && at - last.at <= SAMPLED_MS ? last : undefined
}

async function eventsOf(zone: Zone, history: History): Promise<Recorded[]> {
  const key = `${zone.service.name}/${zone.id}`
  const { events } = await collect(
    history,
    { lanes: ['zones', 'refused'] },
    (event) =>
      event.kind === 'answer'
        ? event.name === zone.name
        : 'zone' in event && event.zone !== undefined && isSameZone(event.zone, key),
    Number.POSITIVE_INFINITY,
    (text) => text.includes(zone.name) || text.includes(`"${key}"`),
  )
  return events
}

function gatewaySteps({ processor, config, failing, envoys, refusedConfig }: GatewayThen): StepThen[] {
  if (processor.state === 'unknown')
    return [
      step(
        'processor',
        false,
        'the history has nothing of that time: raise history.bytes or set history.path',
      ),
    ]
  const steps: StepThen[] = []
  if (processor.state === 'serving') steps.push(step('processor', true, 'served', processor.since))
  else {
    const instead = processor.fallback ? 'Envoy resolved names itself' : 'requests that asked got 502'
    const howLong = processor.until === null ? '' : ` for ${secondsText(processor.until - processor.since)}`
    steps.push(step('processor', false, `no processor served${howLong}; ${instead}`, processor.since))
  }
  if (config !== null) {
    const change = config.change === undefined ? 'no change since the start' : textOf(config.change)
    const cut = config.isWhole ? '' : ' (too long to keep whole)'
    steps.push(step('config', config.isWhole, `${change}${cut}`, config.since))
  }
  if (refusedConfig !== undefined) steps.push(step('config', false, textOf(refusedConfig), refusedConfig.at))
  for (const [nameserver, { since, outcome }] of failing)
    steps.push(step('dns', false, `nameserver ${nameserver} failed (${outcome})`, since))
  const connected = envoys.size === 0 ? 'no Envoy was connected' : `${[...envoys].join(', ')} connected`
  return [...steps, step('envoys', true, connected)]
}

function nameSteps(zone: Zone, { answer, lastGood }: NameThen, { processor }: GatewayThen): StepThen[] {
  if (processor.state === 'away' && answer === null) return []
  if (answer === null) return [step('answer', false, `the history has no answer for ${zone.name} up to then`)]
  const text = `${zone.name}: ${answerText(answer)}${sourceText(answer)}`
  const known = step('answer', answer.result === 'positive', text, answer.since ?? undefined)
  if (lastGood === null) return [known]
  return [known, step('stale', true, `the answer before: ${lastGood.addresses.join(', ')}`)]
}

function step(name: string, ok: boolean, text: string, at?: number): StepThen {
  return { step: name, ok, text, ...(at !== undefined && { at }) }
}

/** The next change of the name: an operator asks for it next. */
function nextSteps({ next }: NameThen): StepThen[] {
  return next === undefined ? [] : [step('later', true, textOf(next), next.at)]
}

function forwarded(
  addresses: readonly string[],
  path: PathThen,
  steps: readonly StepThen[],
  note?: string,
): Outcome {
  const to = addresses.length === 0 ? '' : ` to ${addresses.join(' or ')}`
  const text = `forward${to} (${path})${note === undefined ? '' : `; ${note}`}`
  return {
    decision: { result: 'forward', addresses, path },
    steps: [...steps, step('decision', true, text)],
  }
}

/** Adds how the request ended by its log line, which overrules the decision: Envoy may have answered or routed it by itself. */
export function endedBy(then: ExplainedThen, end: LoggedEnd): ExplainedThen {
  return end.reason === undefined ? sentBy(then, end) : refusedBy(then, end.reason, end)
}

function refusedBy(then: ExplainedThen, reason: string, { status, details }: LoggedEnd): ExplainedThen {
  const { decision } = refused(reason, [])
  if (decision.result !== 'refuse') return then
  const isSame = then.decision.result === 'refuse' && then.decision.reason === reason
  if (isSame && details === undefined) return then
  const code = status === undefined ? decision.status : String(status)
  const text = `${code} ${reason}${details === undefined ? '' : `, details: ${details}`}`
  return {
    ...then,
    decision: { ...decision, status: code },
    steps: [...then.steps, step('ended', false, text)],
  }
}

function sentBy(then: ExplainedThen, { address, path, status }: LoggedEnd): ExplainedThen {
  if (address === undefined || !isPathThen(path)) return then
  const { decision } = then
  if (decision.result === 'forward' && decision.path === path && decision.addresses.includes(address))
    return then
  const text = `forwarded to ${address} (${path})${status === undefined ? '' : `, status ${status}`}`
  return {
    ...then,
    decision: { result: 'forward', addresses: [address], path },
    steps: [...then.steps, step('ended', true, text)],
  }
}

/** How a request ended, by its line of the access log. */
export interface LoggedEnd {
  /** Why Envoy or the processor refused it. Undefined: it was forwarded. */
  readonly reason?: string | undefined
  readonly status?: number | undefined
  /** Envoy's `%RESPONSE_CODE_DETAILS%`. */
  readonly details?: string | undefined
  /** Envoy's `%UPSTREAM_HOST%`. */
  readonly address?: string | undefined
  readonly path?: string | undefined
}

function refused(reason: string, steps: readonly StepThen[], rule?: Rule): Outcome {
  const { status, cause, wayOut } = isReason(reason)
    ? { ...REASONS[reason], wayOut: wayOutBy(rule, reason) }
    : { status: '502', cause: reason, wayOut: '' }
  return {
    decision: { result: 'refuse', reason, status, cause, wayOut },
    steps: [...steps, step('decision', false, `refuse with ${status} ${reason}`)],
  }
}
