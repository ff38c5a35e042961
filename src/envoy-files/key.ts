import { createHash } from 'node:crypto'
import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import type { IdSource } from '../routing/id-sources.ts'
import type { Pattern } from '../routing/patterns.ts'
import type { Rule, Rules } from '../routing/rules.ts'
import { envoySource, ID, MARK, MARKS } from './envoy-source.ts'
import { anyCase, celText, type HeaderCondition, literal, matching, not } from './expressions.ts'

export { ROUTE_HEADER } from '../ext-proc/messages.ts'

/**
 * The key of a request, in the header x-zonegate-route: Envoy finds the request's virtual host by it. It consists of the method, the
 * rule's name if there are several rules, and the unchanged value of the place where the rule looks for the id:
 *
 * | source        | key                      | domains of the virtual host of id 12 |
 * |---------------|--------------------------|--------------------------------------|
 * | header, query | POST/pay/12              | POST/pay/12                          |
 * | path          | POST/cb:/cb/12/x         | POST/cb:/cb/12/ and POST/cb:/cb/12/* |
 * | host          | POST/shop\@12.cb.test:80 | POST/shop\@12.cb.test and …:*        |
 * | cookie        | POST/web;zone=12; a=1    | POST/web;zone=12 and …;*             |
 * | json, form    | POST/chat!body           | as for a header, after a filter has read the body |
 *
 * The key has the whole value, because Envoy's only function that extracts an id (re.extract) compiles its expression for each request
 * (docs/decisions/0039). Some requests have the key of one zone and may mean another: Envoy finds them by `unusualOf`. It asks the
 * processor about them, and about all requests whose key finds no virtual host.
 */

/** Ends of keys that find no virtual host: no rule fits; the header with the id is repeated; the id is in the body. */
const NO_RULE = '!none'
const SEVERAL = '!several'
const IN_BODY = '!body'

/** One entry of `mutations` (Envoy doc: HeaderMutation), in proto3 JSON. */
export type Mutation =
  | { readonly remove: string }
  | {
      readonly append: {
        readonly header: { readonly key: string; readonly value: string }
        readonly append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' | 'ADD_IF_ABSENT'
      }
    }

/**
 * Header mutations of the listener. They make the key of each request that has none yet. A request with a key has passed this Envoy
 * before.
 * @param inline names of the request headers whose repetitions Envoy joins (Envoy doc: Bootstrap.inline_headers)
 */
export function keyMutations(rules: Rules, inline: ReadonlySet<string>): Mutation[] {
  const [only] = rules
  const [source] = only?.sources ?? []
  const isOne = source !== undefined && mayRepeat(source, inline) === null
  if (only?.prefix === '' && only.sources.length === 1 && isOne) return [key(partOf(source) ?? IN_BODY)]
  const parts = new Map<string, string>()
  const choice = rules.reduceRight((otherwise, rule) => {
    const value = choiceOf(rule, rule.sources, parts, inline)
    const condition = conditionOf(rule)
    return condition === null ? value : `${condition} ? ${value} : ${otherwise}`
  }, celText(NO_RULE))
  return [
    ...[...parts].map(([name, value]) => append(name, value, 'OVERWRITE_IF_EXISTS_OR_ADD')),
    key(`%CEL(${choice})%`),
    ...[...parts.keys()].map((remove) => ({ remove })),
  ]
}

function key(value: string): Mutation {
  return append(ROUTE_HEADER, `%REQ(:METHOD)%${value}`, 'ADD_IF_ABSENT')
}

function append(
  name: string,
  value: string,
  action: 'OVERWRITE_IF_EXISTS_OR_ADD' | 'ADD_IF_ABSENT',
): Mutation {
  return { append: { header: { key: name, value }, append_action: action } }
}

/** The rule's part of a key: `/pay`, or nothing for the only rule. */
export function headOf({ prefix }: Pick<Rule, 'prefix'>): string {
  return prefix === '' ? '' : `/${prefix.slice(0, -1)}`
}

/** The source's part of a key, as a format string; null: the id is in the body. */
function partOf(source: IdSource): string | null {
  const { head } = envoySource(source)
  return head && `${MARK[source.kind]}${head.format}`
}

/** The condition of a rule as a CEL expression; null: the rule fits every request. */
function conditionOf({ match: { paths, hosts } }: Rule): string | null {
  const parts = [paths?.map(pathIs), hosts?.map(hostIs)].filter((part) => part !== undefined)
  return parts.length === 0 ? null : parts.map((part) => `(${part.join(' || ')})`).join(' && ')
}

function pathIs({ text: path, isPrefix }: Pattern): string {
  return isPrefix ? `request.url_path.startsWith(${celText(path)})` : `request.url_path == ${celText(path)}`
}

function hostIs({ text: host, isPrefix }: Pattern): string {
  const regex = `^${anyCase(host)}${isPrefix ? '' : '(?::[0-9]*)?$'}`
  return `request.host.matches(${celText(regex)})`
}

/**
 * A CEL expression for the key without its method. It takes the first source that the request may have. CEL can't join texts here,
 * only choose a header. So each part of a key is in a header of its own until the key is made.
 */
function choiceOf(
  rule: Rule,
  sources: readonly IdSource[],
  parts: Map<string, string>,
  inline: ReadonlySet<string>,
): string {
  const [source, ...others] = sources
  const head = source && envoySource(source).head
  if (source === undefined || !head) return celText(`${headOf(rule)}${IN_BODY}`)
  const name = `x-zonegate-key-${parts.size}`
  parts.set(name, `${headOf(rule)}${partOf(source)}`)
  const part = `request.headers[${celText(name)}]`
  const repeated = mayRepeat(source, inline)
  const value = repeated === null ? part : `(${repeated} ? ${celText(`${headOf(rule)}${SEVERAL}`)} : ${part})`
  return others.length === 0
    ? value
    : `(${head.mayHave} ? ${value} : ${choiceOf(rule, others, parts, inline)})`
}

/** Names of the headers that have ids. A client may repeat each of them. */
export function headersWithIds(rules: Rules): ReadonlySet<string> {
  return new Set(
    rules.flatMap(({ sources }) => sources.flatMap((source) => envoySource(source).header ?? [])),
  )
}

/**
 * A CEL condition. Requests that repeat the source's header meet it; formats would take the first of the headers. Null: formats see
 * all values.
 */
function mayRepeat(source: IdSource, inline: ReadonlySet<string>): string | null {
  const { header } = envoySource(source)
  if (header === null || inline.has(header)) return null
  const name = celText(header)
  return `${name} in request.headers && request.headers[${name}].contains(",")`
}

/** Domains of an id's virtual host: the keys of its requests. Envoy compares without case; `*` is one character or more. */
export function domainsOf(rule: Rule, id: string): string[] {
  const ends = new Set(rule.sources.flatMap((source) => endsOf(source, id)))
  return [...rule.methods].flatMap((method) => [...ends].map((end) => `${method}${headOf(rule)}${end}`))
}

function endsOf(source: IdSource, id: string): string[] {
  const { before, after, tail } = envoySource(source).inKey
  const end = `${MARK[source.kind]}${before}${id}${after}`
  return tail === null ? [end] : [end, `${end}${tail.domain}`]
}

/**
 * Lists of conditions. If a request meets all conditions of one list, the processor may read another id than the one in the key, so
 * Envoy asks the processor. Envoy's formats and domains can't tell such requests, for example those with a repeated name or a name in another case.
 */
export function unusualOf(rule: Rule): HeaderCondition[][] {
  return rule.sources.flatMap((source) => {
    const { ambiguous, unclear } = envoySource(source)
    return [
      ...ambiguous.map((condition) => [condition]),
      ...unclear.map((condition) => [...withMark(rule, source), condition]),
    ]
  })
}

/** The keys of a rule from one of its sources. */
export interface KeyPattern {
  /** The keys as a regular expression. @param id a regular expression for letters of ids only, so that a key can be read in one way only */
  readonly with: (id: string) => string
  /** Conditions that requests with these keys must meet, too. */
  readonly conditions: readonly HeaderCondition[]
}

/**
 * The keys of requests from which the processor would read the same id: a pattern for each place where the rule looks. Keys from
 * headers, queries and bodies look the same, so they share a pattern.
 */
export function keyPatterns(rule: Rule): KeyPattern[] {
  const head = `(?:${[...rule.methods].join('|')})${literal(headOf(rule))}`
  const ambiguous = rule.sources.flatMap((source) => envoySource(source).ambiguous)
  const patterns = rule.sources.map((source, index): KeyPattern => {
    const { inKey, unclear } = envoySource(source)
    const { before, after, tail, regexOf } = inKey
    // If the request has an earlier source of this kind, too, its id counts.
    const earlier = rule.sources.slice(0, index).filter(({ kind }) => kind === source.kind)
    const present = earlier.flatMap((other) => envoySource(other).present)
    return {
      with: (id) => `${head}${MARK[source.kind]}${regexOf(before)}${id}${regexOf(after)}${tail?.regex ?? ''}`,
      conditions: [...ambiguous, ...unclear, ...present].map(not).map(orMissing),
    }
  })
  return [...new Map(patterns.map((pattern) => [pattern.with(ID), pattern])).values()]
}

/** In a rule with several sources: meets only keys from this one. */
function withMark(rule: Rule, source: IdSource): HeaderCondition[] {
  return rule.sources.length === 1 ? [] : [keyIs(rule, `${MARK[source.kind]}.*`)]
}

/** A missing header never meets a condition in Envoy, so a missing cookie header counts as an empty one. */
function orMissing(condition: HeaderCondition): HeaderCondition {
  return condition.name === 'cookie' ? { ...condition, treat_missing_header_as_empty: true } : condition
}

/** The method at the beginning of each key. The processor may put an address into the same header: that never matches. */
const METHOD = `[A-Za-z][^${MARKS}]*`

/** Conditions on the key: no rule fits the request, or this rule does. */
export const noRule: HeaderCondition = matching(ROUTE_HEADER, `${METHOD}${NO_RULE}`)
export function isOfRule(rule: Rule): HeaderCondition {
  return keyIs(rule, `[${MARKS}!].*`)
}

function keyIs(rule: Rule, end: string): HeaderCondition {
  return matching(ROUTE_HEADER, `${METHOD}${literal(headOf(rule))}${end}`)
}

const VERSION_LENGTH = 12

/** Two sets of rules with the same version make the same keys, and so find the same zones. */
export function keyVersionOf(rules: Rules): string {
  const parts = rules.map(({ prefix, match, sources }) => [prefix, match, sources])
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, VERSION_LENGTH)
}

/** True if keys may contain secrets of the caller, such as other cookies, so that no log may have them. */
export function hasSecretKeys(rules: Rules): boolean {
  return rules.some(({ sources }) => sources.some((source) => envoySource(source).hasSecrets))
}
