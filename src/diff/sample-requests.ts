import type { Pattern } from '../routing/patterns.ts'
import { isZone, type RequestHead, type Rules, servicesOf, zoneOf } from '../routing/rules.ts'
import { withId } from '../status/request-description.ts'
import type { ZoneRef } from '../zones/learned-zones.ts'

/** A path that no service and no rule names. */
const OTHER = 'any-other-path'
/** Samples of a service. If the rules tell more kinds of requests apart, the others are not compared. */
const SAMPLES_MAX = 200
/** Any valid domain: it does not decide which zone a request is for. */
export const SEARCH = 'test'

/** One kind of requests that come to the zones of a service. */
export interface Sample {
  readonly method: string
  /** For people: method, host if rules look at it, path, and the place of the id. */
  readonly text: string
  readonly headOf: (id: string) => RequestHead
}

/**
 * The requests that rules send to a zone: one of each kind that these or the other rules tell apart by method, path, host and
 * place of the id.
 */
export function samplesOf({ service, id }: ZoneRef, rules: Rules, others: Rules): Sample[] {
  const own = rules.find((rule) => servicesOf(rule).some(({ name }) => name === service))
  if (own === undefined) return []
  const both = [...rules, ...others]
  const paths = unique([
    ...(servicesOf(own).find(({ name }) => name === service)?.paths ?? []),
    ...textsOf(own.match.paths ?? [], OTHER),
    `/${OTHER}`,
    ...both.flatMap((rule) => [...textsOf(rule.match.paths ?? [], OTHER), ...rule.serviceByPath.keys()]),
  ])
  const hosts = unique([
    ...textsOf(own.match.hosts ?? [], ''),
    '',
    ...both.flatMap(({ match }) => textsOf(match.hosts ?? [], '')),
  ])
  const samples = new Map<string, Sample>()
  for (const source of own.sources)
    for (const method of own.methods)
      for (const path of paths)
        for (const authority of hosts) {
          const headOf = (one: string): RequestHead =>
            withId({ method, path, authority, headers: {} }, source, one)
          const head = headOf(id)
          const zone = zoneOf(head, rules, SEARCH)
          const isOwn = isZone(zone) && zone.service.name === service && zone.id === id
          if (!isOwn || samples.size >= SAMPLES_MAX) continue
          const text = `${method} ${head.authority}${headOf('ID').path}`
          const key = JSON.stringify([head.method, head.authority, head.path, source])
          if (!samples.has(key)) samples.set(key, { method, text, headOf })
        }
  return [...samples.values()]
}

/** Texts that a pattern fits: for a prefix, the prefix alone and a longer text. */
function textsOf(patterns: readonly Pattern[], more: string): string[] {
  return patterns.flatMap(({ text, isPrefix }) => (isPrefix && more !== '' ? [text, text + more] : [text]))
}

function unique(texts: readonly string[]): string[] {
  return [...new Set(texts)]
}
