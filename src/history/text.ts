import { fieldChanges } from '../field-changes.ts'
import type { AnswerText, ConfigChangeText, HistoryEvent } from './event.ts'

/** How bad an event is for an operator. */
export type Tone = 'bad' | 'warn' | 'good' | 'plain'

const VALUE_LENGTH_MAX = 160
const CHANGES_SHOWN = 8

const FORGOTTEN: Readonly<Record<string, string>> = {
  idle: 'no request for learned.idleSeconds',
  evicted: 'other zones needed the room',
  nxdomain: 'not in DNS',
  nodata: 'no address in DNS',
  denied: 'no address that is allowed',
  uncacheable: 'TTL 0',
  stale: 'its addresses are too old',
  renamed: 'its name, port, upstream, pin or maintenance has changed',
  rekeyed: 'the rules now find zones by another routing key',
  policy: "Envoy's files allow no learned zone",
  unknown: 'the rules have no such zone',
}

/** An event in one line for people. */
export function textOf(event: HistoryEvent): string {
  switch (event.kind) {
    case 'started':
      return startedText(event)
    case 'stopped':
      return `the processor was told to stop (${event.why})`
    case 'clock_set':
      return `the clock was set ${event.byMs > 0 ? 'forward' : 'back'} by ${secondsText(Math.abs(event.byMs))}`
    case 'config':
      return `${event.file} loaded: ${changesText(event.changes)}`
    case 'config_refused':
      return `${event.file} has faults, so the previous configuration stays active: ${event.faults.join('; ')}`
    case 'envoy_files':
      return `${event.files.join(', ')} loaded: ${changesText(event.changes)}`
    case 'envoy_files_fault': // with an unknown field the new ones may be active
      return `Envoy's files have faults: ${event.faults.join('; ')}`
    case 'nameservers':
      return `nameservers in force: ${event.nameservers.join(', ')} (${event.from}), search domain ${event.search ?? 'none'}`
    case 'nameserver_failing':
      return `nameserver ${event.nameserver} fails (${event.outcome})`
    case 'nameserver_recovered':
      return `nameserver ${event.nameserver} answers again`
    case 'envoy_connected':
      return `Envoy ${event.envoy} connected (${event.version ?? 'version unknown'})`
    case 'envoy_disconnected':
      return `Envoy ${event.envoy} disconnected (${event.why})`
    case 'nack':
      return `Envoy ${event.envoy} refuses ${event.name === undefined ? `resources (${event.resource})` : `${event.resource} ${event.name}`}: ${event.error}`
    case 'pinned':
      return `${event.zone} pinned to ${event.addresses.join(', ')} by ${event.who} until ${utcText(Date.parse(event.until))}, because ${JSON.stringify(event.because)}`
    case 'unpinned':
      return `${event.zone} unpinned (was ${event.addresses.join(', ')} by ${event.who})`
    case 'pin_over':
      return `the pin of ${event.zone} has expired (was ${event.addresses.join(', ')} by ${event.who})`
    case 'answer':
      return `${event.name}: ${event.before === null ? '' : `${answerText(event.before)} -> `}${answerText(event)}${sourceText(event)}`
    case 'learned':
      return `${event.zone} learned${event.why === 'adopted' ? ' (an Envoy still had it)' : ''}: Envoy routes it by itself, to ${event.name}`
    case 'forgotten':
      return `${event.zone} forgotten (${FORGOTTEN[event.why] ?? event.why}): Envoy asks the processor again`
    case 'refused':
      return refusedText(event)
  }
}

export function toneOf({ kind, ...event }: HistoryEvent): Tone {
  switch (kind) {
    case 'nack':
    case 'config_refused':
    case 'envoy_files_fault':
    case 'nameserver_failing':
      return 'bad'
    case 'refused':
    case 'pinned':
    case 'clock_set':
    case 'stopped':
    case 'envoy_disconnected':
      return 'warn'
    case 'nameserver_recovered':
    case 'envoy_connected':
    case 'learned':
      return 'good'
    case 'answer':
      return 'result' in event && event.result === 'positive' && event.addresses.length > 0 ? 'plain' : 'warn'
    case 'started':
      return 'awayMs' in event && (event.awayMs ?? 0) > 5000 ? 'bad' : 'plain'
    default:
      return 'plain'
  }
}

export function answerText({ result, addresses, denied = [], cause }: AnswerText): string {
  switch (result) {
    case 'positive':
      return addresses.length > 0
        ? addresses.join(', ')
        : `no address that is allowed (denied: ${denied.join(', ')})`
    case 'nxdomain':
      return 'not in DNS (NXDOMAIN)'
    case 'nodata':
      return 'no address in DNS (NODATA)'
    case 'failure':
      return `no answer (${cause ?? 'failure'})`
  }
}

export function changesText(changes: readonly ConfigChangeText[]): string {
  const texts = changes.flatMap(({ key, before, after }) => {
    if (before === undefined && after === undefined) return [`${key} (too long to keep)`]
    // Shows only the difference within a rule, not the whole rule twice.
    if (isCompound(before) && isCompound(after))
      return fieldChanges(before, after, key).map(
        (each) => `${each.field}: ${each.before ?? 'absent'} -> ${each.after ?? 'absent'}`,
      )
    return [`${key}: ${valueText(before)} -> ${valueText(after)}`]
  })
  if (texts.length === 0) return 'only comments or layout changed'
  const shown = texts.slice(0, CHANGES_SHOWN)
  const more = texts.length - shown.length
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join('; ')
}

function isCompound(value: unknown): boolean {
  return typeof value === 'object' && value !== null
}

export function secondsText(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`
}

/** Processor and reader may be in different time zones, so the processor's texts name the zone: `2026-11-29 02:12:03 UTC`. */
export function utcText(ms: number): string {
  return new Date(ms)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, ' UTC')
}

function startedText({
  version,
  awayMs,
  fallback,
  file,
}: Extract<HistoryEvent, { kind: 'started' }>): string {
  const instead = fallback ? 'Envoy resolved names itself' : 'requests that ask got 502'
  const away =
    awayMs === null ? '' : `; before, no processor served for ${secondsText(awayMs)} and ${instead}`
  return `the processor ${version} started with ${file}${away}`
}

function refusedText({
  reason,
  zone,
  name,
  requestId,
  leftOut,
  dns,
}: Extract<HistoryEvent, { kind: 'refused' }>): string {
  const what = [zone, name].filter((each) => each !== undefined).join(', ')
  const more = leftOut > 0 ? `, ${leftOut} more since the last one shown` : ''
  return `refused ${reason}${what === '' ? '' : ` (${what})`}${dns === undefined ? '' : `: ${dns}`}, request ${requestId}${more}`
}

/** Who gave an answer, and its TTL; empty where neither is known. */
export function sourceText({
  ttlSeconds,
  nameserver,
}: Pick<AnswerText, 'ttlSeconds' | 'nameserver'>): string {
  const parts = [
    ...(nameserver === undefined ? [] : [`by ${nameserver}`]),
    ...(ttlSeconds === undefined ? [] : [`TTL ${ttlSeconds} s`]),
  ]
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`
}

function valueText(value: unknown): string {
  if (value === undefined) return 'absent'
  const text = JSON.stringify(value)
  return text.length > VALUE_LENGTH_MAX ? `${text.slice(0, VALUE_LENGTH_MAX)}...` : text
}
