import { formFields } from '../routing/fields.ts'
import { type BodySource, type IdSource, isBodySource, queryOf, readId } from '../routing/id-sources.ts'
import { pathOf, type RequestHead, type Rule, type Rules, ruleOf } from '../routing/rules.ts'
import { MARK, signOf } from './envoy-source.ts'
import type { HeaderCondition } from './expressions.ts'
import { domainsOf, headOf, ROUTE_HEADER, unusualOf } from './key.ts'

/**
 * True if Envoy finds the zone of a request without the processor. This file repeats what Envoy's files do (key.ts and
 * envoy/id_in_body.lua), so that "zonegate explain" can tell who would decide.
 */
export function isReadByEnvoy(head: RequestHead, id: string, rules: Rules): boolean {
  const rule = ruleOf(head, rules)
  const source = rule?.sources.find((each) => readId(head, each).kind !== 'absent')
  if (rule === undefined || source === undefined) return false
  // Envoy takes the first source of the list that the request may have.
  if (rule.sources.slice(0, rule.sources.indexOf(source)).some((earlier) => mayHave(head, earlier)))
    return false
  const key = keyOf(head, rule, source, id)
  return (
    key !== null &&
    domainsOf(rule, id).some((domain) => matchesDomain(key, domain)) &&
    !unusualOf(rule).some((conditions) => conditions.every((condition) => isMet(condition, head, key)))
  )
}

/** Null: the id is in a body that Envoy's script does not understand. */
function keyOf(head: RequestHead, rule: Rule, source: IdSource, id: string): string | null {
  if (isBodySource(source) && !isPlainBody(head, source, id)) return null
  const value = isBodySource(source) ? id : rawValue(head, source)
  return `${head.method}${headOf(rule)}${MARK[source.kind]}${value}`
}

/** `EnvoySource.head.mayHave` of a source. */
function mayHave(head: RequestHead, source: IdSource): boolean {
  switch (source.kind) {
    case 'header':
      return head.headers[source.name] !== undefined
    case 'query':
      return new RegExp(signOf(source)).test(queryOf(head.path))
    case 'path':
    case 'host':
    case 'cookie':
      return new RegExp(signOf(source)).test(rawValue(head, source))
    case 'json':
    case 'form':
      // Envoy chooses the source before it reads the body.
      return true
  }
}

/** `EnvoySource.head.format` of a source, filled in. */
function rawValue(head: RequestHead, source: Exclude<IdSource, BodySource>): string {
  switch (source.kind) {
    case 'header':
      return (head.headers[source.name] ?? []).join(',')
    case 'query':
      // Envoy decodes the value (Envoy doc: Substitution formatters, QUERY_PARAM).
      return formFields(queryOf(head.path)).find(({ name }) => name === source.name)?.value ?? ''
    case 'path':
      return pathOf(head.path)
    case 'host':
      return head.authority
    case 'cookie':
      return (head.headers['cookie'] ?? []).join('; ')
  }
}

/** The longest body that envoy/id_in_body.lua reads, octets. */
const BODY_OCTETS_MAX = 16_384
/** The types of bodies that it reads. */
const PLAIN_TYPE = /^[^;, ]*(?: *; *charset="?utf-?8"?)?$/i

/** True for a body that envoy/id_in_body.lua understands: it has the id as it is, and no escapes in its names. */
function isPlainBody(
  { headers, body = Buffer.alloc(0) }: RequestHead,
  source: BodySource,
  id: string,
): boolean {
  const [type = '', ...more] = headers['content-type'] ?? []
  const text = body.toString('latin1')
  return (
    body.length <= BODY_OCTETS_MAX &&
    more.length === 0 &&
    PLAIN_TYPE.test(type) &&
    headers['content-encoding'] === undefined &&
    isPlainText(text, source, id)
  )
}

function isPlainText(text: string, source: BodySource, id: string): boolean {
  switch (source.kind) {
    case 'form':
      return text.split('&').includes(`${source.name}=${id}`) && !/%[^&]*=|;/.test(text)
    case 'json':
      return new RegExp(`: *"?${id}"?\\s*[,}]`).test(text) && !/\\u00/i.test(text)
  }
}

/** Envoy compares domains without case; a final `*` stands for one character or more. */
function matchesDomain(key: string, domain: string): boolean {
  const [own, wanted] = [key.toLowerCase(), domain.toLowerCase()]
  if (!wanted.endsWith('*')) return own === wanted
  return own.length >= wanted.length && own.startsWith(wanted.slice(0, -1))
}

function isMet(
  { name, string_match, invert_match = false }: HeaderCondition,
  head: RequestHead,
  key: string,
): boolean {
  const value =
    { ':path': head.path, ':authority': head.authority, [ROUTE_HEADER]: key }[name] ??
    (head.headers[name] ?? []).join('; ')
  return matchesWhole(value, string_match.safe_regex.regex) !== invert_match
}

/** RE2 has its flag `(?i)` in front of the expression; JavaScript has it behind. */
function matchesWhole(text: string, regex: string): boolean {
  const isAnyCase = regex.startsWith('(?i)')
  return new RegExp(`^(?:${isAnyCase ? regex.slice(4) : regex})$`, isAnyCase ? 'is' : 's').test(text)
}
