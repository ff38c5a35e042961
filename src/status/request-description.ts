import * as z from 'zod'
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
import { parseCurl } from './curl-command.ts'
import { CommandFault } from './shell-words.ts'

/** A request as an operator describes it. */
export interface RequestDescription {
  /** Default: POST. */
  readonly method?: string | undefined
  /** Path and query. Default: `/`. */
  readonly path?: string | undefined
  readonly host?: string | undefined
  /** `name: value` lines. */
  readonly headers?: readonly string[] | undefined
  readonly body?: Buffer | undefined
  /** Ids to put into the first source of the matching rule. */
  readonly ids?: readonly string[] | undefined
  /** A curl command, instead of the method, path, host and headers. */
  readonly curl?: string | undefined
  /** A zone, instead of everything else: describes some request to this zone. */
  readonly zone?: { readonly service: string; readonly id: string } | undefined
}

const text = z.string()
const lines = z.array(text)
/** The same in JSON. `body` is text; `bodyBase64` has octets. */
const descriptionSchema = z.strictObject({
  method: text.optional(),
  path: text.optional(),
  host: text.optional(),
  headers: lines.optional(),
  body: text.optional(),
  bodyBase64: text.optional(),
  ids: lines.optional(),
  curl: text.optional(),
  zone: z.strictObject({ service: text, id: text }).optional(),
})

/** A fault in a description. `field` is the part with the fault. */
export class DescriptionFault extends Error {
  readonly field: string

  constructor(field: string, message: string) {
    super(message)
    this.name = 'DescriptionFault'
    this.field = field
  }
}

/** The longest body in a description, octets. No rule reads longer bodies. */
export const BODY_OCTETS_MAX = 1024 * 1024
/** A token (RFC 9110 section 5.6.2). */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
/** Octets that no header value may contain (RFC 9110 section 5.5). */
const LINE_BREAK = /[\0\r\n]/

/**
 * Completes a description into a request.
 * @param rules used if the description names a zone
 * @throws DescriptionFault
 */
export function describedRequest(description: RequestDescription, rules: Rules = []): DescribedRequest {
  const { curl, zone, ids = [] } = description
  if (zone !== undefined) {
    const request = requestToZone(zone.service, zone.id, rules)
    if (request !== null) return request
    throw new DescriptionFault(
      'zone',
      `no request is known that goes to ${zone.service} ${zone.id}: give its path`,
    )
  }
  const {
    method = 'POST',
    path = '/',
    host,
    headers = [],
    body,
  } = curl === undefined ? description : ofCurl(curl, description)
  if (!TOKEN.test(method)) throw new DescriptionFault('method', `expected a method, got "${method}"`)
  if (!path.startsWith('/'))
    throw new DescriptionFault('path', `expected a path that begins with "/", got "${path}"`)
  if (body !== undefined && body.length > BODY_OCTETS_MAX)
    throw new DescriptionFault('body', `expected ${BODY_OCTETS_MAX} octets or fewer`)
  const fields = headers.map(headerOf)
  const hosts = fields.filter(({ name }) => name === 'host').map(({ value }) => value)
  const [authority = '', ...more] = host === undefined ? hosts : [host]
  if (more.length > 0)
    throw new DescriptionFault('header', 'expected one Host: Envoy answers more with 400 bad_request')
  return {
    method,
    path,
    authority,
    headers: Object.fromEntries(
      [...Map.groupBy(fields, ({ name }) => name)].map(([name, all]) => [
        name,
        all.map(({ value }) => value),
      ]),
    ),
    ids,
    ...(body !== undefined && { body }),
  }
}

/**
 * Reads a description that came as JSON.
 * @throws DescriptionFault
 */
export function descriptionOf(json: string): RequestDescription {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch {
    throw new DescriptionFault('request', 'expected JSON')
  }
  const { success, data, error } = descriptionSchema.safeParse(value)
  if (!success) {
    const [issue] = error.issues
    throw new DescriptionFault(issue?.path.join('.') || 'request', issue?.message ?? 'expected an object')
  }
  const { body, bodyBase64, ...rest } = data
  const octets = bodyBase64 === undefined ? body && Buffer.from(body) : Buffer.from(bodyBase64, 'base64')
  return { ...rest, ...(octets && { body: octets }) }
}

/** JSON that `descriptionOf` reads as the same request. */
export function descriptionJson(request: DescribedRequest): z.input<typeof descriptionSchema> {
  const { method, path, authority, headers, ids, body } = request
  return {
    method,
    path,
    host: authority,
    headers: Object.entries(headers).flatMap(([name, values = []]) =>
      values.filter(() => name !== 'host').map((value) => `${name}: ${value}`),
    ),
    ids: [...ids],
    ...(body && { bodyBase64: body.toString('base64') }),
  }
}

function headerOf(line: string): { name: string; value: string } {
  const at = line.indexOf(':')
  const name = line.slice(0, Math.max(at, 0)).toLowerCase()
  const value = line.slice(at + 1).trim()
  if (!TOKEN.test(name) || LINE_BREAK.test(value))
    throw new DescriptionFault('header', `expected "name: value", got "${line}"`)
  return { name, value }
}

/** A body in the description replaces the file that the command names. */
function ofCurl(
  command: string,
  { body, method, path, host, headers = [] }: RequestDescription,
): RequestDescription {
  if ([method, path, host].some((text) => text !== undefined) || headers.length > 0)
    throw new DescriptionFault(
      'curl',
      'expected no method, path, host and header beside it: the command has them',
    )
  try {
    const { bodyFile, ...request } = parseCurl(command)
    if (bodyFile !== undefined && body === undefined)
      throw new DescriptionFault(
        'curl',
        `the command reads the file "${bodyFile}": give its content as the body`,
      )
    return { ...request, body: body ?? (request.body === '' ? undefined : Buffer.from(request.body)) }
  } catch (error) {
    if (error instanceof CommandFault) throw new DescriptionFault('curl', error.message)
    throw error
  }
}

/** A described request. Only its ids are not in place yet. */
export interface DescribedRequest extends RequestHead {
  /** Ids to put into the first source of the matching rule. */
  readonly ids: readonly string[]
}

/** The request with its ids in place. */
export function requestOf({ ids, ...head }: DescribedRequest, rules: Rules): RequestHead {
  const [source] = ruleOf(head, rules)?.sources ?? []
  return source === undefined ? head : ids.reduce((request, id) => withId(request, source, id), head)
}

/** Some request that goes to a zone. Null: none of the tried paths leads there. */
function requestToZone(service: string, id: string, rules: Rules): DescribedRequest | null {
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

/** Any valid domain will do: it does not affect which zone a request goes to. */
const SEARCH = 'test'

/** Paths to try: those of the service; if it has none, one that fits the rule. */
function pathsOf(rule: Rule, service: string): readonly string[] {
  const paths = servicesOf(rule).find(({ name }) => name === service)?.paths ?? []
  return paths.length > 0 ? paths : [textOf(rule.match.paths) || '/']
}

function textOf(patterns: readonly Pattern[] | undefined): string {
  return patterns?.[0]?.text ?? ''
}

/** The request with an id added in the place of a source. */
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
