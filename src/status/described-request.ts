import type { IdSource } from '../routing/id-sources.ts'
import type { Pattern } from '../routing/patterns.ts'
import {
  isZone,
  pathOf,
  type RequestHead,
  type Rule,
  type Rules,
  ruleOf,
  servicesOf,
  zoneOf,
} from '../routing/rules.ts'

/** A request as someone describes it who asks where it would go. */
export interface DescribedRequest extends RequestHead {
  /** To be put where the rule that fits looks first. */
  readonly ids: readonly string[]
}

/** The request with its ids in place. */
export function requestOf({ ids, ...head }: DescribedRequest, rules: Rules): RequestHead {
  const [source] = ruleOf(head, rules)?.sources ?? []
  return source === undefined ? head : ids.reduce((request, id) => withId(request, source, id), head)
}

/** A request that goes to a zone; null where none is found, as paths of services may be anything. */
export function requestToZone(service: string, id: string, rules: Rules): DescribedRequest | null {
  const rule = rules.find((each) => servicesOf(each).some(({ name }) => name === service))
  if (rule === undefined) return null
  const [method = 'POST'] = rule.methods
  const host = textOf(rule.match.hosts)
  for (const path of pathsOf(rule, service)) {
    const described: DescribedRequest = { method, path, authority: host, headers: {}, ids: [id] }
    const zone = zoneOf(requestOf(described, rules), rules, SEARCH)
    if (isZone(zone) && zone.service.name === service) return described
  }
  return null
}

/** Any that makes host names: the domain is of no matter for which zone it is. */
const SEARCH = 'test'

/** Paths to try: those of the service, else one that the rule fits. */
function pathsOf(rule: Rule, service: string): readonly string[] {
  const paths = servicesOf(rule).find(({ name }) => name === service)?.paths ?? []
  return paths.length > 0 ? paths : [textOf(rule.match.paths) || '/']
}

function textOf(patterns: readonly Pattern[] | undefined): string {
  return patterns?.[0]?.text ?? ''
}

/** The request with an id in a place of a rule. */
export function withId(head: RequestHead, source: IdSource, id: string): RequestHead {
  switch (source.kind) {
    case 'header':
      return withHeader(head, source.name, id)
    case 'cookie':
      return withHeader(head, 'cookie', `${source.name}=${id}`)
    case 'query':
      return { ...head, path: `${head.path}${head.path.includes('?') ? '&' : '?'}${source.name}=${id}` }
    case 'path': {
      const { before, after } = source.template
      return { ...head, path: `${before}${id}${after}${head.path.slice(pathOf(head.path).length)}` }
    }
    case 'host':
      return { ...head, authority: `${source.template.before}${id}${source.template.after}` }
    case 'form': {
      const pairs = [
        ...(head.body === undefined ? [] : [head.body.toString('latin1')]),
        `${source.name}=${id}`,
      ]
      return withBody(head, 'application/x-www-form-urlencoded', pairs.join('&'))
    }
    case 'json': {
      const value = source.steps.reduceRight((inner: unknown, step) => ({ [step]: inner }), id)
      return withBody(head, 'application/json', JSON.stringify(value))
    }
  }
}

function withHeader(head: RequestHead, name: string, value: string): RequestHead {
  return { ...head, headers: { ...head.headers, [name]: [...(head.headers[name] ?? []), value] } }
}

function withBody(head: RequestHead, type: string, body: string): RequestHead {
  return { ...head, headers: { ...head.headers, 'content-type': [type] }, body: Buffer.from(body) }
}
