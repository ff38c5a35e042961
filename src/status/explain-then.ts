import { isService } from '../dns/service-resolver.ts'
import type { AnswerText, Recorded, RefusedEvent } from '../history/event.ts'
import type { History } from '../history/history.ts'
import { type GatewayThen, gatewayAt, type NameThen, nameAt, startAfter, upTo } from '../history/past.ts'
import { collect, isSameZone } from '../history/read-history.ts'
import { answerText, secondsText, textOf } from '../history/text.ts'
import { authorityOf } from '../routing/decision.ts'
import { isZone, type Rules, type Zone, zoneOf } from '../routing/rules.ts'
import type { SaidOfZones } from '../routing/said.ts'
import { explainRules } from './explain-rules.ts'
import { isReason, REASONS } from './reasons.ts'
import { type DescribedRequest, requestOf } from './request-description.ts'

/** Where a request would have gone at a moment that is over. Times are milliseconds since 1970. */
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

/** How a request went through Envoy. `fallback`: Envoy resolved the name itself. */
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
  /** Too little is kept of that time. */
  | { readonly result: 'unknown' }

export interface StepThen {
  readonly step: string
  readonly ok: boolean
  readonly text: string
  /** When it began to be so, or happened; absent where that isn't known, or of no matter. */
  readonly at?: number | undefined
}

export interface ThenSeams {
  readonly history: History
  /** The rules by a configuration of that time, and what is said of zones by it and by the pins; null: it can't be run. */
  readonly world: (then: GatewayThen) => ThenWorld | null
}

export interface ThenWorld {
  readonly rules: Rules
  readonly said: SaidOfZones
  readonly search: string
  readonly staleMs: number
}

/** Refusals of a zone that are kept are a minute apart at most, while there are some. */
const SAMPLED_MS = 60_000

/** @param path of the request, where it is known, as from its line of the access log; else that of its zone at the moment */
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
  if (!isZone(zone)) return { ...common, rule, zone: null, ...refused(zone.reason, steps) }
  const own = await eventsOf(zone, history)
  const found = { zone, then, by, own, at, untilSeq: startAfter(gateway, at)?.seq, path }
  const named = { service: zone.service.name, id: zone.id, name: zone.name }
  return { ...common, rule, zone: named, ...zoneThen(found, steps) }
}

interface Found {
  readonly zone: Zone
  readonly then: GatewayThen
  readonly by: ThenWorld
  /** Events of the zone and its name. */
  readonly own: readonly Recorded[]
  readonly at: number
  readonly untilSeq: number | undefined
  /** Of the request, where it is known. */
  readonly path: PathThen | undefined
}

type Outcome = Pick<ExplainedThen, 'decision' | 'steps'>

function zoneThen(found: Found, before: readonly StepThen[]): Outcome {
  const { zone, then, own, at } = found
  const learned = learnedAt(found)
  const known = found.path ?? (learned === null ? undefined : 'hot')
  const path = known ?? 'cold'
  const name = nameAt(own, at, startSeq(then), found.untilSeq)
  const maintenance = zone.said?.maintenance
  const pinned = zone.said?.pinned
  const steps = [
    ...before,
    ...(pinned === undefined && maintenance === undefined ? nameSteps(zone, name, then) : []),
  ]
  if (path === 'hot')
    steps.push({
      step: 'learned',
      ok: true,
      text: 'Envoy routed it by itself (hot)',
      at: learned ?? undefined,
    })
  else if (path === 'cold')
    steps.push({ step: 'learned', ok: true, text: 'its requests asked the processor (cold)' })
  const last = lastRefusal(found)
  if (last !== undefined) steps.push({ step: 'refused', ok: false, text: textOf(last), at: last.at })
  if (zone.service.upstream?.tls)
    steps.push({ step: 'tls', ok: true, text: "by TLS; the zone's certificate is not looked at here" })
  const done = (outcome: Outcome): Outcome => ({ ...outcome, steps: [...outcome.steps, ...nextSteps(name)] })
  if (maintenance !== undefined) return done(refused('maintenance', steps))
  const isAway = then.processor.state === 'away'
  const resolvesItself = then.processor.state === 'away' && then.processor.fallback
  if (path === 'fallback' || (resolvesItself && known === undefined)) {
    const note = "by Envoy's own DNS: what that said is in its access log"
    return done(forwarded([], 'fallback', steps, note))
  }
  if (isAway && path === 'cold') return done(refused('processor_unavailable', steps))
  if (pinned !== undefined) {
    const { addresses, by } = pinned
    const who = 'key' in by ? by.key : `${by.who}, because ${JSON.stringify(by.because)}`
    steps.push({ step: 'pin', ok: addresses.length > 0, text: `pinned by ${who}; DNS was not asked` })
    if (addresses.length === 0) return done(refused('address_denied', steps))
    return done(
      forwarded(
        addresses.map((each) => authorityOf(each, zone.service.port)),
        path,
        steps,
      ),
    )
  }
  return done(byName(found, name, path, steps, last))
}

function byName(
  { zone, by, at }: Found,
  { answer, lastGood }: NameThen,
  path: PathThen,
  steps: readonly StepThen[],
  last: RefusedEvent | undefined,
): Outcome {
  const authorities = (addresses: readonly string[]): string[] =>
    isService(zone.name) ? [...addresses] : addresses.map((each) => authorityOf(each, zone.service.port))
  switch (answer?.result) {
    case 'positive':
      return answer.addresses.length === 0
        ? refused('address_denied', steps)
        : forwarded(authorities(answer.addresses), path, steps)
    case 'nxdomain':
      return refused('name_not_found', steps)
    case 'nodata':
      return refused('no_address', steps)
    case 'failure':
      return lastGood !== null && at - lastGood.failingSince < by.staleMs
        ? forwarded(
            authorities(lastGood.addresses),
            path,
            steps,
            'no newer answer was to be had: these served stale',
          )
        : refused('nameservers_failed', steps)
    default:
      return last === undefined ? { decision: { result: 'unknown' }, steps } : refused(last.reason, steps)
  }
}

/** Since when Envoy routed the zone by itself; null: it did not. */
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

/** The event after which the processor of that time knew something. */
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
  const steps: StepThen[] = []
  if (processor.state === 'unknown')
    return [
      { step: 'processor', ok: false, text: 'nothing is kept of that time (history.bytes, history.path)' },
    ]
  if (processor.state === 'serving')
    steps.push({ step: 'processor', ok: true, text: 'served', at: processor.since })
  else {
    const instead = processor.fallback ? 'Envoy resolved names itself' : 'requests that asked got 502'
    const for_ = processor.until === null ? '' : `, for ${secondsText(processor.until - processor.since)}`
    steps.push({
      step: 'processor',
      ok: false,
      text: `no processor served${for_}; ${instead}`,
      at: processor.since,
    })
  }
  if (config !== null) {
    const change = config.change === undefined ? 'as at the start' : textOf(config.change)
    steps.push({
      step: 'config',
      ok: config.isWhole,
      text: `${change}${config.isWhole ? '' : ' (too long to keep whole)'}`,
      at: config.since,
    })
  }
  if (refusedConfig !== undefined)
    steps.push({ step: 'config', ok: false, text: textOf(refusedConfig), at: refusedConfig.at })
  for (const [nameserver, { since, outcome }] of failing)
    steps.push({ step: 'dns', ok: false, text: `nameserver ${nameserver} failed (${outcome})`, at: since })
  steps.push({
    step: 'envoys',
    ok: true,
    text: envoys.size === 0 ? 'none was connected' : `${[...envoys].join(', ')} connected`,
  })
  return steps
}

function nameSteps(zone: Zone, { answer, lastGood }: NameThen, { processor }: GatewayThen): StepThen[] {
  if (processor.state === 'away' && answer === null) return []
  if (answer === null)
    return [{ step: 'answer', ok: false, text: `nothing was known of ${zone.name}, or it has made room` }]
  const by = [
    ...(answer.nameserver === undefined ? [] : [`by ${answer.nameserver}`]),
    ...(answer.ttlSeconds === undefined ? [] : [`TTL ${answer.ttlSeconds} s`]),
  ]
  const text = `${zone.name}: ${answerText(answer as AnswerText)}${by.length === 0 ? '' : ` (${by.join(', ')})`}`
  const known: StepThen = {
    step: 'answer',
    ok: answer.result === 'positive',
    text,
    at: answer.since ?? undefined,
  }
  if (lastGood === null) return [known]
  return [known, { step: 'stale', ok: true, text: `known before: ${lastGood.addresses.join(', ')}` }]
}

/** What came after: whoever asks why a zone was there asks next where it went. */
function nextSteps({ next }: NameThen): StepThen[] {
  return next === undefined ? [] : [{ step: 'later', ok: true, text: textOf(next), at: next.at }]
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
    steps: [...steps, { step: 'decision', ok: true, text }],
  }
}

/** As it is told of a request that Envoy answered by itself, whatever was decided before. */
export function endedBy(then: ExplainedThen, { reason, status, details }: LoggedEnd): ExplainedThen {
  const { decision } = refused(reason, [])
  if (decision.result !== 'refuse') return then
  const isSame = then.decision.result === 'refuse' && then.decision.reason === reason
  if (isSame && details === undefined) return then
  const code = status === undefined ? decision.status : String(status)
  const text = `${code} ${reason}${details === undefined ? '' : `, details: ${details}`}`
  return {
    ...then,
    decision: { ...decision, status: code },
    steps: [...then.steps, { step: 'ended', ok: false, text }],
  }
}

/** How a request ended, by its line of the access log. */
export interface LoggedEnd {
  readonly reason: string
  readonly status?: number | undefined
  /** Envoy's `%RESPONSE_CODE_DETAILS%`. */
  readonly details?: string | undefined
}

function refused(reason: string, steps: readonly StepThen[]): Outcome {
  const { status, cause, wayOut } = isReason(reason)
    ? REASONS[reason]
    : { status: '502', cause: reason, wayOut: '' }
  return {
    decision: { result: 'refuse', reason, status, cause, wayOut },
    steps: [...steps, { step: 'decision', ok: false, text: `refuse with ${status} ${reason}` }],
  }
}
