import { insteadOf } from '../routing/decision.ts'
import { readId, sourceText } from '../routing/id-sources.ts'
import type { RejectReason } from '../routing/reject-reason.ts'
import { isZone, type RequestHead, type Rule, ruleOf, type Zone, zoneOf } from '../routing/rules.ts'
import { reachText } from '../status/explain.ts'
import { addressTexts } from '../status/status.ts'
import { headsOf, type Logged, type LoggedHead, parseLine } from './log-line.ts'
import { ruleText, type World } from './outcome.ts'

/** Requests of an access log that a new configuration would decide differently. */
export interface LogDiff {
  readonly requests: number
  readonly differently: number
  /** The most frequent first. */
  readonly changes: readonly LogChange[]
  /** Requests that the lines tell too little about. */
  readonly unknown: { readonly requests: number; readonly why: Readonly<Record<string, number>> }
  /** Lines that are not in the format of envoy/listener.yaml. */
  readonly unreadable: { readonly lines: number; readonly examples: readonly number[] }
}

export interface LogChange {
  readonly change: 'refusal' | 'name' | 'port' | 'upstream' | 'pin' | 'rule'
  /** What its requests have in common, such as `200 forwarded, then 403 id_missing`. */
  readonly kind: string
  readonly requests: number
  readonly examples: readonly LogExample[]
}

export interface LogExample {
  /** From 1 up. */
  readonly line: number
  readonly request: string
  readonly before: string
  readonly after: string
}

/** A decision up to DNS. */
type Decided =
  | { readonly kind: 'refuse'; readonly rule: string | null; readonly reason: RejectReason }
  | {
      readonly kind: 'zone'
      readonly rule: string
      readonly name: string
      /** 0: from SRV records. */
      readonly port: number
      readonly pinned: string | null
      /** The protocol; empty: HTTP/1.1 in plain text. */
      readonly reach: string
    }

interface Unknown {
  readonly kind: 'unknown'
  readonly why: string
}

/** Reasons of refusals before DNS is asked. */
const BEFORE_DNS: readonly string[] = [
  'no_rule',
  'method_not_allowed',
  'id_missing',
  'id_invalid',
  'server_header_missing',
  'server_header_invalid',
]

/** @param examplesMax examples of each kind */
export async function diffLog(
  lines: AsyncIterable<string>,
  before: World,
  after: World,
  examplesMax: number,
): Promise<LogDiff> {
  const changes = new Map<
    string,
    { -readonly [Key in keyof LogChange]: LogChange[Key] } & { examples: LogExample[] }
  >()
  const why: Record<string, number> = {}
  const unreadable = { lines: 0, examples: [] as number[] }
  let [requests, differently, unknown, at] = [0, 0, 0, 0]
  for await (const text of lines) {
    at += 1
    if (text.trim() === '') continue
    const logged = parseLine(text)
    if (logged === null) {
      unreadable.lines += 1
      if (unreadable.examples.length < examplesMax) unreadable.examples.push(at)
      continue
    }
    requests += 1
    const found = diffLine(logged, before, after)
    if (found === null) continue
    if ('why' in found) {
      unknown += 1
      why[found.why] = (why[found.why] ?? 0) + 1
      continue
    }
    differently += 1
    const { change, kind, ...texts } = found
    const key = `${change} ${kind}`
    const known = changes.get(key) ?? { change, kind, requests: 0, examples: [] }
    changes.set(key, known)
    known.requests += 1
    if (known.examples.length < examplesMax)
      known.examples.push({ line: at, request: requestText(logged), ...texts })
  }
  return {
    requests,
    differently,
    changes: [...changes.values()].sort((a, b) => b.requests - a.requests),
    unknown: { requests: unknown, why },
    unreadable,
  }
}

type Found = Pick<LogChange, 'change' | 'kind'> & Pick<LogExample, 'before' | 'after'>

/** Null: nothing changes for the request. */
function diffLine(logged: Logged, before: World, after: World): Found | Unknown | null {
  const bare: RequestHead = { method: logged.method, path: logged.path, authority: logged.host, headers: {} }
  const [rule, next] = [ruleOf(bare, before.rules), ruleOf(bare, after.rules)]
  if (!logged.isWhole) return unknown('the log shortened the path or the host')
  if (isSame(rule, next) && before.search === after.search && before.saidBy === after.saidBy) return null
  const heads = headsOf(logged, rule)
  if (typeof heads === 'string') {
    if (isSame(rule, next) && rule === undefined) return null
    return unknown(heads)
  }
  const found = heads.map((head) => diffHead(logged, head, before, after))
  const texts = new Set(found.map((each) => JSON.stringify(each)))
  return texts.size === 1 ? (found[0] ?? null) : unknown('the key does not say in which place the id was')
}

function diffHead(logged: Logged, head: LoggedHead, before: World, after: World): Found | Unknown | null {
  const absent = absentName(logged, head, before)
  const was = decidedBy(head, before, absent)
  if (was.kind === 'unknown') return was
  const is = decidedBy(head, after, absent)
  if (is.kind === 'unknown') return is
  const fault = disagreement(logged, head, before)
  return fault === null ? changeOf(was, is) : unknown(fault)
}

/**
 * Decides a request by the rules, if the log tells everything they look at.
 * @param absent the name that was not in DNS; null: it was, or nobody asked
 */
function decidedBy({ head, knows }: LoggedHead, world: World, absent: string | null): Decided | Unknown {
  const rule = ruleOf(head, world.rules)
  if (rule?.methods.has(head.method) === true)
    for (const source of rule.sources) {
      if (!knows(source)) return unknown(`the log does not say: ${sourceText(source)}`)
      if (readId(head, source).kind !== 'absent') break
    }
  const zone = zoneOf(head, world.rules, world.search, world.said)
  if (!isZone(zone)) return { kind: 'refuse', rule: zone.rule?.name ?? null, reason: zone.reason }
  if (absent === null) return decidedZone(zone)
  if (absent !== zone.name) return unknown('the log does not say whether the new name is in DNS')
  const other = insteadOf(zone, world.rules, world.search, world.said)
  return other === null
    ? { kind: 'refuse', rule: zone.service.rule, reason: 'name_not_found' }
    : decidedZone(other)
}

function decidedZone(zone: Zone): Decided {
  const { service, name, said } = zone
  if (said?.maintenance !== undefined) return { kind: 'refuse', rule: service.rule, reason: 'maintenance' }
  const pinned =
    said?.pinned === undefined ? null : [...addressTexts(said.pinned.addresses)].sort().join(', ')
  return { kind: 'zone', rule: service.rule, name, port: service.port, pinned, reach: reachText(zone) }
}

/** The name of the request's own zone, if it was not in DNS. */
function absentName(
  { reason, zone: logged }: Logged,
  { head }: LoggedHead,
  { rules, search, said }: World,
): string | null {
  const zone = zoneOf(head, rules, search, said)
  if (!isZone(zone)) return null
  if (reason === 'name_not_found') return zone.name
  const isOther = logged !== undefined && logged !== zone.name
  return isOther && insteadOf(zone, rules, search, said)?.name === logged ? zone.name : null
}

/** Why the line contradicts the configuration in force, which then can't have written it; null: it does not. */
function disagreement({ reason, zone: logged }: Logged, { head }: LoggedHead, world: World): string | null {
  const zone = zoneOf(head, world.rules, world.search, world.said)
  const other = 'the configuration in force decides it differently from the log'
  if (!isZone(zone)) return reason === undefined || reason === zone.reason ? null : other
  if (reason !== undefined && BEFORE_DNS.includes(reason)) return other
  if (logged === undefined || logged === zone.name) return null
  return insteadOf(zone, world.rules, world.search, world.said)?.name === logged ? null : other
}

function changeOf(before: Decided, after: Decided): Found | null {
  const texts = { before: decidedText(before), after: decidedText(after) }
  if (before.kind === 'refuse' || after.kind === 'refuse') {
    const [was, is] = [resultOf(before), resultOf(after)]
    return was === is
      ? ruleChange(before, after)
      : { change: 'refusal', kind: `${was}, then ${is}`, ...texts }
  }
  if (before.name !== after.name) return { change: 'name', kind: 'another name', ...texts }
  if (before.port !== after.port)
    return { change: 'port', kind: `${portText(before.port)}, then ${portText(after.port)}`, ...texts }
  if (before.reach !== after.reach) return { change: 'upstream', kind: 'reached in another way', ...texts }
  if (before.pinned !== after.pinned) return { change: 'pin', kind: 'pinned in another way', ...texts }
  return ruleChange(before, after)
}

function ruleChange(before: Decided, after: Decided): Found | null {
  if (before.rule === after.rule) return null
  const kind = `rule ${before.rule ?? 'none'}, then ${after.rule ?? 'none'}`
  return { change: 'rule', kind, before: decidedText(before), after: decidedText(after) }
}

function resultOf(decided: Decided): string {
  return decided.kind === 'refuse' ? decided.reason : 'forwarded'
}

function decidedText(decided: Decided): string {
  if (decided.kind === 'refuse') return decided.reason
  const { rule, name, port, pinned, reach } = decided
  return `${name} ${portText(port)}${pinned === null ? '' : `, pinned to ${pinned || 'nothing'}`} (rule ${rule})${reach}`
}

function portText(port: number): string {
  return port === 0 ? 'port from SRV' : `port ${port}`
}

function requestText({ method, host, path, key }: Logged): string {
  return `${method} ${host}${path}${key === undefined ? '' : `, key ${key}`}`
}

function unknown(why: string): Unknown {
  return { kind: 'unknown', why }
}

function isSame(a: Rule | undefined, b: Rule | undefined): boolean {
  return a === undefined || b === undefined ? a === b : ruleText(a) === ruleText(b)
}
