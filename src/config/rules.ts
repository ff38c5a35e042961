import { createHash } from 'node:crypto'
import type { IdSource, SourceKind, SourceOf } from '../routing/id-sources.ts'
import { patternOf, templateOf } from '../routing/patterns.ts'
import type { Rule, Rules, Service, Upstream } from '../routing/rules.ts'
import { portOf, RULE_NAME, type RuleConfig, type SourceConfig, servicesConfig } from './rules-schema.ts'

const DEFAULT_HEADER = 'server'
/** With more zones, their own virtual hosts would cost Envoy more than a script for each hot request (docs/decisions/0042). */
const OWN_ROUTES_MAX = 5_000

/** The parts of a checked configuration that make its rules. */
interface RulesConfig {
  readonly rules: readonly RuleConfig[]
  readonly learned: { readonly zonesMax: number; readonly sharedRoutes: boolean | null }
}

/** Converts the checked `rules` section for src/routing. */
export function rulesOf({ rules, learned }: RulesConfig): Rules {
  const isOnly = rules.length === 1 && rules[0]?.match === undefined
  const sharesRoutes = learned.sharedRoutes ?? learned.zonesMax > OWN_ROUTES_MAX
  return rules.map((rule) => ruleOf(rule, isOnly, sharesRoutes))
}

function ruleOf(config: RuleConfig, isOnly: boolean, sharesRoutes: boolean): Rule {
  const { name = RULE_NAME, match, methods, host, idPattern, bodyMaxBytes } = config
  return {
    name,
    prefix: isOnly ? '' : `${name}.`,
    match: {
      ...(match?.paths && { paths: match.paths.map(patternOf) }),
      ...(match?.hosts && { hosts: match.hosts.map((text) => patternOf(text.toLowerCase())) }),
    },
    methods: new Set(methods),
    sources: sourcesOf(config),
    idPattern: new RegExp(idPattern),
    host,
    bodyMaxBytes,
    sharesRoutes,
    ...servicesOf(config, name),
  }
}

/** The sources of a rule, of which `header` is a short form. */
function sourcesOf({ header = DEFAULT_HEADER, id }: Pick<RuleConfig, 'header' | 'id'>): IdSource[] {
  return id?.map(sourceOf) ?? [SOURCES.header(header)]
}

/** Makes a source from the text behind its key in zonegate.yaml. */
const SOURCES: { readonly [Kind in SourceKind]: (text: string) => SourceOf<Kind> } = {
  header: (name) => ({ kind: 'header', name }),
  query: (name) => ({ kind: 'query', name }),
  path: (text) => ({ kind: 'path', text, template: templateOf(text) }),
  host: (text) => ({ kind: 'host', text, template: templateOf(text.toLowerCase()) }),
  cookie: (name) => ({ kind: 'cookie', name }),
  json: (text) => ({ kind: 'json', text, steps: stepsOf(text) }),
  form: (name) => ({ kind: 'form', name }),
}

function sourceOf(config: SourceConfig): IdSource {
  for (const kind of Object.keys(SOURCES) as SourceKind[]) {
    const text = config[kind]
    if (text !== undefined) return SOURCES[kind](text)
  }
  throw new Error('the schema lets through only sources with one key')
}

/** The steps of a JSON pointer (RFC 6901 section 4). */
function stepsOf(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
}

const SYSTEM = 'system'
const HASH_LENGTH = 12

/** Undefined for HTTP/1.1 in plain text. */
function upstreamOf(config: RuleConfig['upstream']): Upstream | undefined {
  if (config === undefined || (config.tls === undefined && config.http === 1)) return undefined
  const { tls, http } = config
  const { ca = SYSTEM, cert, key, serverName = null } = tls ?? {}
  const client = cert === undefined || key === undefined ? null : { cert, key }
  // serverName is not part of the hash: it differs by zone, and zones share the cluster.
  const alike = tls === undefined ? { http } : { http, ca, client }
  const hash = createHash('sha256').update(JSON.stringify(alike)).digest('hex').slice(0, HASH_LENGTH)
  return {
    cluster: ['zones', ...(tls ? ['tls'] : []), ...(http === 2 ? ['http2'] : []), hash].join('.'),
    tls: tls === undefined ? null : { ca: ca === SYSTEM ? null : ca, client, serverName },
    http,
  }
}

function servicesOf(config: RuleConfig, rule: string): Pick<Rule, 'serviceByPath' | 'fallback'> {
  const services = Object.entries(servicesConfig(config))
  const serviceByPath = new Map<string, Service>()
  let fallback: Service | undefined
  for (const [key, { paths, port, upstream: own }] of services) {
    const label = key.toLowerCase()
    const isAlone = services.length === 1 && label === rule
    const name = config.name === undefined || isAlone ? label : `${rule}.${label}`
    const upstream = upstreamOf(own ?? config.upstream)
    const service: Service = {
      name,
      label,
      rule,
      ...portOf(port ?? config.port),
      ...(upstream && { upstream }),
    }
    if (paths === undefined) fallback = service
    for (const path of paths ?? []) serviceByPath.set(path, service)
  }
  if (fallback === undefined) throw new Error('the schema lets through only services with a fallback')
  return { serviceByPath, fallback }
}
