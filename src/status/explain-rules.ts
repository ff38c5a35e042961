import { type FormFields, formFields } from '../routing/fields.ts'
import {
  cookies,
  type IdReading,
  type IdSource,
  queryOf,
  readId,
  readsType,
  sourceText,
} from '../routing/id-sources.ts'
import { fits, type Pattern } from '../routing/patterns.ts'
import { hostOf } from '../routing/request-head.ts'
import {
  isId,
  isZone,
  looksIntoBody,
  pathOf,
  type Refusal,
  type RequestHead,
  type Rule,
  type Rules,
  ruleOf,
  type Zone,
} from '../routing/rules.ts'

/** One step of a decision in words. `ok: false`: the step failed, or refuses the request. */
export interface Step {
  readonly step:
    | 'rule'
    | 'method'
    | 'body'
    | 'source'
    | 'id'
    | 'service'
    | 'name'
    | 'zones'
    | 'cache'
    | 'query'
    | 'answer'
    | 'addresses'
    | 'decision'
    | 'envoy'
    | 'errors'
    | 'health'
  readonly ok: boolean
  readonly text: string
}

export interface ExplainedRules {
  /** Name of the rule that decides; null: no rule fits. */
  readonly rule: string | null
  /** The id as the request has it (`12`) and its source (`query server_id`); null: there is none. */
  readonly id: { readonly source: string; readonly value: string } | null
  readonly steps: readonly Step[]
  /** True: Envoy refuses the body because of its length, before anyone looks for an id. */
  readonly isTooLarge: boolean
}

/** Explains rule, method, id, service and name. Stops at the step that refuses the request. */
export function explainRules(
  head: RequestHead,
  rules: Rules,
  search: string,
  outcome: Zone | Refusal,
): ExplainedRules {
  const rule = ruleOf(head, rules)
  const none = { id: null, isTooLarge: false }
  if (rule === undefined) return { rule: null, ...none, steps: noRuleSteps(head, rules) }
  const fit: Step[] = rule.prefix === '' ? [] : [{ step: 'rule', ok: true, text: whyThis(head, rule) }]
  const method = methodStep(head, rule)
  const before = [...fit, method]
  if (!method.ok) return { rule: rule.name, ...none, steps: before }
  const body = bodyStep(head, rule)
  if (body !== null) return { rule: rule.name, id: null, isTooLarge: true, steps: [...before, body] }
  const { id, steps } = explainId(head, rule, outcome)
  return {
    rule: rule.name,
    id,
    isTooLarge: false,
    steps: [...before, ...steps, ...(isZone(outcome) ? zoneSteps(head, rule, search, outcome) : [])],
  }
}

/** The patterns that make a rule fit. */
function whyThis(head: RequestHead, { name, match }: Rule): string {
  const path = match.paths?.find((pattern) => fits(pattern, pathOf(head.path)))
  const host = match.hosts?.find((pattern) => fits(pattern, hostOf(head.authority)))
  const reasons = [path && `path ${patternText(path)}`, host && `host ${patternText(host)}`].filter(Boolean)
  return `${name} fits${reasons.length === 0 ? ' every request' : `: ${reasons.join(', ')}`}`
}

function noRuleSteps(head: RequestHead, rules: Rules): Step[] {
  const host = head.authority === '' ? '' : ` of the host ${hostOf(head.authority)}`
  const none = `none fits the path ${pathOf(head.path)}${host}`
  return [{ step: 'rule', ok: false, text: none }, ...rules.map((rule) => whyNot(head, rule))]
}

/** What a rule requires and the request lacks. */
function whyNot(head: RequestHead, { name, match }: Rule): Step {
  const path = wanted('path', match.paths, pathOf(head.path))
  const host = wanted('host', match.hosts, hostOf(head.authority))
  return { step: 'rule', ok: false, text: `${name} wants ${[path, host].filter(Boolean).join(' and ')}` }
}

function wanted(what: string, patterns: readonly Pattern[] | undefined, value: string): string {
  if (patterns === undefined) return ''
  const all = `${what} ${patterns.map(patternText).join(' or ')}`
  if (patterns.some((pattern) => fits(pattern, value))) return all
  return `${all} (${value === '' ? 'there is none' : `not ${value}`})`
}

function patternText({ text, isPrefix }: Pattern): string {
  return isPrefix ? `${text}*` : text
}

function methodStep({ method }: RequestHead, { methods }: Rule): Step {
  return methods.has(method)
    ? { step: 'method', ok: true, text: `${method} is in methods` }
    : { step: 'method', ok: false, text: `${method} is not in methods (${[...methods].join(', ')})` }
}

function bodyStep({ body }: RequestHead, rule: Rule): Step | null {
  if (!looksIntoBody(rule) || body === undefined || body.length <= rule.bodyMaxBytes) return null
  return {
    step: 'body',
    ok: false,
    text: `${body.length} octets, more than bodyMaxBytes (${rule.bodyMaxBytes})`,
  }
}

/** The sources in order, up to the first that has an id. */
function explainId(
  head: RequestHead,
  rule: Rule,
  outcome: Zone | Refusal,
): Pick<ExplainedRules, 'id' | 'steps'> {
  const absent: string[] = []
  for (const source of rule.sources) {
    const reading = readId(head, source)
    const place = sourceText(source)
    if (reading.kind === 'absent') {
      absent.push(`${place}: ${whyAbsent(head, source)}`)
      continue
    }
    const value = reading.kind === 'id' ? reading.id : reading.text
    const why = isZone(outcome) ? null : whyInvalid(reading, rule)
    const text = `${place}: ${why ?? `${JSON.stringify(value)} matches idPattern`}`
    return {
      id: { source: place, value },
      steps: [...absent.map((text) => sourceStep(text, true)), { step: 'id', ok: why === null, text }],
    }
  }
  const [only] = absent
  if (absent.length === 1) return { id: null, steps: [{ step: 'id', ok: false, text: `none in ${only}` }] }
  const text = `none in ${rule.sources.map(sourceText).join(', ')}`
  const none: Step = { step: 'id', ok: false, text }
  return { id: null, steps: [...absent.map((each) => sourceStep(each, false)), none] }
}

function sourceStep(text: string, ok: boolean): Step {
  return { step: 'source', ok, text }
}

function whyInvalid(reading: Exclude<IdReading, { kind: 'absent' }>, rule: Rule): string {
  if (reading.kind !== 'id')
    return reading.kind === 'several'
      ? `${JSON.stringify(reading.text)}: more than one id`
      : `${reading.text}: receivers may read it differently`
  const { id } = reading
  if (isId(id, rule)) return `${JSON.stringify(id)} makes no host name of ${rule.host}`
  return `${JSON.stringify(id)} does not match idPattern ${rule.idPattern.source}, or has more than letters, digits and hyphens`
}

function zoneSteps(head: RequestHead, rule: Rule, search: string, { service, name }: Zone): Step[] {
  const path = pathOf(head.path)
  const belongs = rule.serviceByPath.has(path) ? 'the service' : 'no other service:'
  return [
    {
      step: 'service',
      ok: true,
      text: `${path} belongs to ${belongs} ${service.name}, port ${service.srv === undefined ? service.port : 'from SRV'}`,
    },
    { step: 'name', ok: true, text: `${name} (host, search domain ${search})` },
  ]
}

/** Why a source has no id, in a few words. */
function whyAbsent(head: RequestHead, source: IdSource): string {
  switch (source.kind) {
    case 'header': {
      const [value] = head.headers[source.name] ?? []
      if (value === undefined) return 'not there'
      return value === '' ? 'empty' : `${JSON.stringify(value)}, which stands for none`
    }
    case 'query':
      return whyNoField(formFields(queryOf(head.path)), source.name)
    case 'cookie':
      return whyNoField(cookies(head.headers['cookie'] ?? []), source.name)
    case 'path':
      return `${pathOf(head.path)} does not fit`
    case 'host':
      return head.authority === '' ? 'no host' : `${hostOf(head.authority)} does not fit`
    case 'form':
    case 'json': {
      const [type] = head.headers['content-type'] ?? []
      if (type === undefined) return 'no content-type'
      if (!readsType(source.kind, type)) return `content-type is ${type}`
      if (head.body === undefined || head.body.length === 0) return 'no body'
      if (source.kind === 'json') return 'not there, or empty'
      return whyNoField(formFields(head.body.toString('latin1')), source.name)
    }
  }
}

function whyNoField(fields: FormFields, wanted: string): string {
  return fields.some(({ name }) => name === wanted) ? 'empty' : 'not there'
}
