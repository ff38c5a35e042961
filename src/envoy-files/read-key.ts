import { formFields } from '../routing/fields.ts'
import { type IdSource, isBodySource, queryOf, readId } from '../routing/id-sources.ts'
import { pathOf, type RequestHead, type Rule, type Rules, ruleOf } from '../routing/rules.ts'
import { domainsOf, type HeaderCondition, headOf, MARK, ROUTE_HEADER, signOf, unusualOf } from './key.ts'

/**
 * Whether Envoy finds the route of a request's zone, by the key that the listener makes of it and by the routes for unusual requests.
 * What Envoy does is written in its files (key.ts, envoy/id_in_body.lua); here is the same once more, to explain it.
 */
export function isReadByEnvoy(head: RequestHead, id: string, rules: Rules): boolean {
  const rule = ruleOf(head, rules)
  const source = rule?.sources.find((each) => readId(head, each).kind !== 'absent')
  if (rule === undefined || source === undefined) return false
  // Of a list, Envoy takes the first source that the request may have.
  if (rule.sources.slice(0, rule.sources.indexOf(source)).some((earlier) => mayHave(head, earlier)))
    return false
  const key = keyOf(head, rule, source, id)
  return (
    key !== null &&
    domainsOf(rule, id).some((domain) => matchesDomain(key, domain)) &&
    !unusualOf(rule).some((conditions) => conditions.every((condition) => isMet(condition, head, key)))
  )
}

/** Null where the id is in a body that says it less plainly than Envoy reads it. */
function keyOf(head: RequestHead, rule: Rule, source: IdSource, id: string): string | null {
  const said = isBodySource(source) ? (isPlainBody(head, source, id) ? id : null) : rawValue(head, source)
  return said === null ? null : `${head.method}${headOf(rule)}${MARK[source.kind]}${said}`
}

/** Envoy looks into no body before it has chosen. */
function mayHave(head: RequestHead, source: IdSource): boolean {
  if (isBodySource(source)) return true
  if (source.kind === 'header') return head.headers[source.name] !== undefined
  const place = source.kind === 'query' ? queryOf(head.path) : rawValue(head, source)
  return new RegExp(signOf(source)).test(place)
}

/** What Envoy finds in the place of a source. */
function rawValue(head: RequestHead, source: IdSource): string {
  switch (source.kind) {
    case 'header':
      return (head.headers[source.name] ?? []).join(',')
    case 'query':
      // Envoy decodes it (QUERY_PARAM in its document "Substitution formatters").
      return formFields(queryOf(head.path)).find(({ name }) => name === source.name)?.value ?? ''
    case 'path':
      return pathOf(head.path)
    case 'host':
      return head.authority
    case 'cookie':
      return (head.headers['cookie'] ?? []).join('; ')
    default:
      throw new Error('a body has no place in the head')
  }
}

/** Octets that envoy/id_in_body.lua reads. */
const BODY_OCTETS_MAX = 16_384
/** Types of bodies that it reads. */
const PLAIN_TYPE = /^[^;, ]*(?: *; *charset="?utf-?8"?)?$/i

/** In a plain body the id stands as it is: no escape makes a letter of it or of a name. */
function isPlainBody(
  { headers, body = Buffer.alloc(0) }: RequestHead,
  source: IdSource,
  id: string,
): boolean {
  const [type = '', ...more] = headers['content-type'] ?? []
  const text = body.toString('latin1')
  return (
    body.length <= BODY_OCTETS_MAX &&
    more.length === 0 &&
    PLAIN_TYPE.test(type) &&
    headers['content-encoding'] === undefined &&
    (source.kind === 'form'
      ? text.split('&').includes(`${source.name}=${id}`) && !/%[^&]*=|;/.test(text)
      : new RegExp(`: *"?${id}"?\\s*[,}]`).test(text) && !/\\u00/i.test(text))
  )
}

/** Envoy compares domains without case; `*` at the end is one character or more. */
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

/** RE2's flag for letters of either case stands in front of the expression. */
function matchesWhole(text: string, regex: string): boolean {
  const isAnyCase = regex.startsWith('(?i)')
  return new RegExp(`^(?:${isAnyCase ? regex.slice(4) : regex})$`, isAnyCase ? 'is' : 's').test(text)
}
