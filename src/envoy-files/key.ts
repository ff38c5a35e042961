import { createHash } from 'node:crypto'
import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import { type IdSource, isBodySource } from '../routing/id-sources.ts'
import type { Pattern, Template } from '../routing/patterns.ts'
import type { Rule, Rules } from '../routing/rules.ts'

export { ROUTE_HEADER } from '../ext-proc/messages.ts'

/**
 * What Envoy finds routes by, in the header x-zonegate-route: METHOD, the rule's name where there are several rules, and what the
 * request has in the place where the rule looks, as it is:
 *
 * | source        | key                      | domains of the virtual host of id 12 |
 * |---------------|--------------------------|--------------------------------------|
 * | header, query | POST/pay/12              | POST/pay/12                          |
 * | path          | POST/cb:/cb/12/x         | POST/cb:/cb/12/ and POST/cb:/cb/12/* |
 * | host          | POST/shop\@12.cb.test:80 | POST/shop\@12.cb.test and …:*        |
 * | cookie        | POST/web;zone=12; a=1    | POST/web;zone=12 and …;*             |
 * | json, form    | POST/chat!body           | as for a header, once a filter has read the body |
 *
 * Envoy extracts nothing: its one function for that (re.extract) compiles the expression for each request (docs/decisions/0039).
 * A request that has the key of a zone and yet may mean another is told apart by `unusualOf`. All that find no virtual host are
 * decided by the processor.
 */

/** Between the head of a key and what follows it. Names of rules have none of them. */
export const MARK = {
  header: '/',
  query: '/',
  path: ':',
  host: '@',
  cookie: ';',
  json: '/',
  form: '/',
} as const
/** No rule fits the request. */
const NO_RULE = '!none'
/** The header is there several times. */
const SEVERAL = '!several'
/** The id is in the body. */
const IN_BODY = '!body'

/** What an id may consist of: with anything else the processor is asked. */
const ID = '[A-Za-z0-9-]+'

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
 * Makes the key of a request that has none, on the listener. What was forwarded has one: it has been here before.
 * @param inline names of the headers of which Envoy makes one where they are repeated (Envoy doc: Bootstrap.inline_headers)
 */
export function keyMutations(rules: Rules, inline: ReadonlySet<string>): Mutation[] {
  const [only] = rules
  const [source] = only?.sources ?? []
  const isOne = source !== undefined && mayRepeat(source, inline) === null
  if (only?.prefix === '' && only.sources.length === 1 && isOne)
    return [key(isBodySource(source) ? IN_BODY : partOf(source))]
  const parts = new Map<string, string>()
  const choice = rules.reduceRight((otherwise, rule) => {
    const value = choiceOf(rule, rule.sources, parts, inline)
    const condition = conditionOf(rule)
    return condition === null ? value : `${condition} ? ${value} : ${otherwise}`
  }, text(NO_RULE))
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

/** The rule's part of a key: `/pay`, or nothing for the only one. */
export function headOf({ prefix }: Pick<Rule, 'prefix'>): string {
  return prefix === '' ? '' : `/${prefix.slice(0, -1)}`
}

/** What a request has in one place, as a format string (Envoy doc: Substitution formatters). */
function partOf(source: IdSource): string {
  const mark = MARK[source.kind]
  switch (source.kind) {
    case 'header':
      return `${mark}%REQ(${source.name})%`
    case 'query':
      return `${mark}%QUERY_PARAM(${source.name})%`
    case 'path':
      // Without the query, which may hold secrets: zones get the key, and it is logged.
      return `${mark}%PATH(NQ:PATH)%`
    case 'host':
      return `${mark}%REQ(:AUTHORITY)%`
    case 'cookie':
      return `${mark}%REQ(cookie)%`
    default:
      throw new Error('a filter reads the body')
  }
}

/** The condition of a rule as a CEL expression; null: it fits everything. */
function conditionOf({ match: { paths, hosts } }: Rule): string | null {
  const parts = [paths?.map(pathIs), hosts?.map(hostIs)].filter((part) => part !== undefined)
  return parts.length === 0 ? null : parts.map((part) => `(${part.join(' || ')})`).join(' && ')
}

function pathIs({ text: path, isPrefix }: Pattern): string {
  return isPrefix ? `request.url_path.startsWith(${text(path)})` : `request.url_path == ${text(path)}`
}

function hostIs({ text: host, isPrefix }: Pattern): string {
  const regex = `^${anyCase(host)}${isPrefix ? '' : '(?::[0-9]*)?$'}`
  return `request.host.matches(${text(regex)})`
}

/**
 * The key behind its method, by the first source that the request may have. An expression can choose between headers, but not
 * put texts together: each part is in a header of its own for that long.
 */
function choiceOf(
  rule: Rule,
  sources: readonly IdSource[],
  parts: Map<string, string>,
  inline: ReadonlySet<string>,
): string {
  const [source, ...others] = sources
  if (source === undefined || isBodySource(source)) return text(`${headOf(rule)}${IN_BODY}`)
  const name = `x-zonegate-key-${parts.size}`
  parts.set(name, `${headOf(rule)}${partOf(source)}`)
  const part = `request.headers[${text(name)}]`
  const repeated = mayRepeat(source, inline)
  const value = repeated === null ? part : `(${repeated} ? ${text(`${headOf(rule)}${SEVERAL}`)} : ${part})`
  return others.length === 0
    ? value
    : `(${mayHave(source)} ? ${value} : ${choiceOf(rule, others, parts, inline)})`
}

/** The header that the id is in; null: it is in no header that may be repeated. */
export function headerWithId(source: IdSource): string | null {
  return source.kind === 'cookie' ? 'cookie' : source.kind === 'header' ? source.name : null
}

/** True for each request that has the source's header several times, of which formats take the first; null: there can't be any. */
function mayRepeat(source: IdSource, inline: ReadonlySet<string>): string | null {
  const name = headerWithId(source)
  if (name === null || inline.has(name)) return null
  return `${text(name)} in request.headers && request.headers[${text(name)}].contains(",")`
}

/** Letters that are looked for in an expression, of whatever length: Envoy takes regular expressions of 100 instructions there. */
const ENOUGH = 20

function someOf({ before, after }: Template): string {
  return after === '' ? before.slice(0, ENOUGH) : after.slice(-ENOUGH)
}

/** True for each request that has the source, and for some that haven't: for these the processor decides. */
function mayHave(source: IdSource): string {
  if (source.kind === 'header') return `${text(source.name)} in request.headers`
  const regex = text(signOf(source))
  switch (source.kind) {
    case 'cookie':
      return `("cookie" in request.headers && request.headers["cookie"].matches(${regex}))`
    case 'query':
      return `request.query.matches(${regex})`
    case 'path':
      return `request.url_path.matches(${regex})`
    case 'host':
      return `request.host.matches(${regex})`
    default:
      throw new Error('sources in the body are asked last')
  }
}

/** Matches some part of the query, path, host or cookies of each request that has the source there, and of some that haven't. */
export function signOf(source: IdSource): string {
  switch (source.kind) {
    case 'cookie':
      return mayName(source.name, ';,')
    case 'query':
      return mayName(source.name, '&;')
    case 'path':
      return `^${anyCase(source.template.before.slice(0, ENOUGH))}|${ODD_PATH}`
    case 'host':
      return `${anyCase(someOf(source.template))}|${ODD_HOST}`
    default:
      throw new Error('no part of the head has it')
  }
}

/** The domains of the virtual host of an id: the keys of its requests. Envoy compares without case; `*` is one character or more. */
export function domainsOf(rule: Rule, id: string): string[] {
  const ends = new Set(rule.sources.flatMap((source) => endsOf(source, id)))
  return [...rule.methods].flatMap((method) => [...ends].map((end) => `${method}${headOf(rule)}${end}`))
}

function endsOf(source: IdSource, id: string): string[] {
  const mark = MARK[source.kind]
  switch (source.kind) {
    case 'path': {
      const { before, after, isOpen } = source.template
      const path = `${mark}${before}${id}${after}`
      return isOpen ? [path, `${path}*`] : [path]
    }
    case 'host': {
      const host = `${mark}${source.template.before}${id}${source.template.after}`
      return [host, `${host}:*`]
    }
    case 'cookie':
      return [`${mark}${source.name}=${id}`, `${mark}${source.name}=${id};*`]
    default:
      return [`${mark}${id}`]
  }
}

/** Envoy's HeaderMatcher. */
export type HeaderCondition = {
  readonly name: string
  readonly string_match: { readonly safe_regex: { readonly regex: string } }
  readonly invert_match?: boolean
  readonly treat_missing_header_as_empty?: boolean
}

/** What a receiver may resolve, decode or leave out: it may see the id of another path, or of another host. */
const ODD_PATH = String.raw`[%;\\]|/[/.]`
const ODD_HOST = String.raw`[^A-Za-z0-9._:\[\]-]|\.(?::[0-9]*)?$`
/** Segments of a path that lead to no other folder, and in which nothing is encoded that may. */
const PLAIN_SEGMENTS = String.raw`(?:[^./?%\\][^/?%\\]*/?)*`

/**
 * Conditions on the requests with the key of a zone: those that meet all of one list may say another id to the processor, which
 * decides them. What stands twice, or in another case, Envoy's formats and domains don't tell.
 */
export function unusualOf(rule: Rule): HeaderCondition[][] {
  return rule.sources.flatMap((source) => [
    ...unusualOfAny(source).map((condition) => [condition]),
    ...unusualOfOwn(source).map((condition) => [...withMark(rule, source), condition]),
  ])
}

/** Whichever source a key is from. */
function unusualOfAny(source: IdSource): HeaderCondition[] {
  switch (source.kind) {
    case 'query':
      return [matching(':path', `(?i)[^?]*\\?${twice(source.name, '&;', ' +')}`)]
    case 'cookie':
      return [matching('cookie', `(?i)${twice(source.name, ';,', ' +\\t')}`)]
    default:
      return []
  }
}

/** Where the key is from this source. */
function unusualOfOwn(source: IdSource): HeaderCondition[] {
  switch (source.kind) {
    case 'path':
      return [not(matching(':path', plainPath(source.template)))]
    case 'host':
      return [not(matching(':authority', plainHost(source.template)))]
    case 'cookie':
      // Domains are compared without case, and names of cookies are not.
      return [not(matching('cookie', `${literal(source.name)}=${ID}(?:;.*)?`))]
    default:
      return []
  }
}

/** The keys of a rule from one of its sources, as a regular expression, and what else their requests must meet. */
export interface KeyPattern {
  /** @param id a regular expression; it has no letters but those of an id, so that there is one way to read a key */
  readonly with: (id: string) => string
  readonly conditions: readonly HeaderCondition[]
}

/**
 * For each place where the rule looks: requests that the processor, too, would read this id from. Header, query and body make keys
 * that look the same.
 */
export function keyPatterns(rule: Rule): KeyPattern[] {
  const head = `(?:${[...rule.methods].join('|')})${literal(headOf(rule))}`
  const ofAny = rule.sources.flatMap(unusualOfAny)
  const patterns = rule.sources.map((source, index): KeyPattern => {
    const earlier = rule.sources.slice(0, index).flatMap((other) => mayHaveLike(source, other))
    return {
      with: (id) => `${head}${MARK[source.kind]}${endOf(source, id)}`,
      conditions: [...ofAny, ...unusualOfOwn(source), ...earlier].map(not).map(orMissing),
    }
  })
  return [...new Map(patterns.map((pattern) => [pattern.with(ID), pattern])).values()]
}

/** What stands in a key behind the mark of a source. */
function endOf(source: IdSource, id: string): string {
  switch (source.kind) {
    case 'path': {
      const { before, after, isOpen } = source.template
      return `${literal(before)}${id}${literal(after)}${isOpen ? '.*' : ''}`
    }
    case 'host':
      return `${anyCase(source.template.before)}${id}${anyCase(source.template.after)}(?::[0-9]*)?`
    case 'cookie':
      return `${literal(source.name)}=${id}(?:;.*)?`
    default:
      return id
  }
}

/** Of two sources of one kind in a rule, the earlier one counts where it has anything. */
function mayHaveLike(source: IdSource, earlier: IdSource): HeaderCondition[] {
  if (source.kind === 'path' && earlier.kind === 'path') {
    const { before, after, isOpen } = earlier.template
    const rest = isOpen ? '.*' : '(?:\\?.*)?'
    return [matching(':path', `${anyCase(before)}[^/?]*${anyCase(after)}${rest}`)]
  }
  if (source.kind === 'host' && earlier.kind === 'host') {
    const { before, after } = earlier.template
    return [matching(':authority', `${anyCase(before)}[^.]*${anyCase(after)}(?::[0-9]*)?`)]
  }
  if (source.kind === 'cookie' && earlier.kind === 'cookie')
    return [matching('cookie', `(?i)(?:.*[;,])?[ \\t]*${alike(earlier.name)}[ \\t]*(?:[=[].*)?`)]
  return []
}

/**
 * Fields of which two may be the one of a name to some receiver (isAlike in routing/fields.ts), or one has an encoded name, which
 * may be the same.
 * @param ends letters at which a field ends
 * @param blanks letters that are left out around a name
 */
function twice(name: string, ends: string, blanks: string): string {
  const field = `[${blanks}]*${alike(name)}[${blanks}]*`
  return `(?:.*[${ends}])?(?:[^=${ends}]*%.*|${field}(?:[=[].*)?[${ends}](?:.*[${ends}])?${field}(?:[=[${ends}].*)?)`
}

/** Matches texts with a field that may be the one of a name, or whose name is encoded. */
function mayName(name: string, ends: string): string {
  return `(?:^|[${ends}])[^=${ends}]*%|${alike(name.slice(0, ENOUGH), anyCase)}`
}

/** A name that may be this one to a receiver: PHP puts `_` for dots, blanks and a lone `[`. Two ranges are less to match than five letters. */
function alike(name: string, written = literal): string {
  return written(name).replace(/_|\\\./g, '[ -.[-_]')
}

function plainHost({ before, after }: Template): string {
  return `(?i)${literal(before)}${ID}${literal(after)}(?::[0-9]*)?`
}

function plainPath({ before, after, isOpen }: Template): string {
  return `${literal(before)}${ID}${literal(after)}${isOpen ? PLAIN_SEGMENTS : ''}(?:\\?.*)?`
}

/** Of a rule with several sources: only the keys of this one. */
function withMark(rule: Rule, source: IdSource): HeaderCondition[] {
  if (rule.sources.length === 1) return []
  return [matching(ROUTE_HEADER, `${METHOD}${literal(headOf(rule))}${MARK[source.kind]}.*`)]
}

function matching(name: string, regex: string): HeaderCondition {
  return { name, string_match: { safe_regex: { regex } } }
}

/** A header that is missing meets no condition, whatever it says; an empty one may. */
function orMissing(condition: HeaderCondition): HeaderCondition {
  return condition.name === 'cookie' ? { ...condition, treat_missing_header_as_empty: true } : condition
}

function not(condition: HeaderCondition): HeaderCondition {
  const { invert_match, ...rest } = condition
  return invert_match ? rest : { ...rest, invert_match: true }
}

/** A method, as every key begins with one; an address doesn't. */
const METHOD = '[A-Za-z][^/:@;]*'
const VERSION_LENGTH = 12

/** Two sets of rules with the same version find the same key, and so the same zone, in each request. */
export function keyVersionOf(rules: Rules): string {
  const said = rules.map(({ prefix, match, sources }) => [prefix, match, sources])
  return createHash('sha256').update(JSON.stringify(said)).digest('hex').slice(0, VERSION_LENGTH)
}

/** True where keys have secrets beside the id: the other cookies of a request. */
export function hasSecretKeys(rules: Rules): boolean {
  return rules.some(({ sources }) => sources.some(({ kind }) => kind === 'cookie'))
}

/** Conditions on the key: no rule fits the request, or this one does. */
export const noRule: HeaderCondition = matching(ROUTE_HEADER, `${METHOD}${NO_RULE}`)
export function isOfRule(rule: Rule): HeaderCondition {
  return matching(ROUTE_HEADER, `${METHOD}${literal(headOf(rule))}[/:@;!].*`)
}

/** A text as a CEL expression. No per cent sign: it may end the format's command. */
function text(value: string): string {
  return JSON.stringify(value).replaceAll('%', '\\x25')
}

/** In any case of letters, an instruction for each: `(?i)` makes four of an "s" and of a "k", which have third forms beyond ASCII. */
function anyCase(value: string): string {
  return literal(value).replace(/[a-z]/gi, (letter) => `[${letter.toLowerCase()}${letter.toUpperCase()}]`)
}

/** A text as a regular expression of RE2. */
function literal(value: string): string {
  return value.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
}
