import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parse } from 'yaml'
import { parseConfig } from '../config/load.ts'
import { rulesOf } from '../config/rules.ts'
import { generate } from './generated.ts'
import type { FallbackDns } from './names-cluster.ts'
import { type EnvoyFiles, render } from './render.ts'

// biome-ignore lint/suspicious/noExplicitAny: YAML as it comes
type Yaml = any
const file = (name: string) => ({
  path: `envoy/${name}`,
  text: readFileSync(new URL(`../../envoy/${name}`, import.meta.url), 'utf8'),
})
const FILES: EnvoyFiles = {
  bootstrap: file('envoy.yaml'),
  listener: file('listener.yaml'),
  routes: file('routes.yaml'),
  clusters: file('clusters.yaml'),
}
const DNS: FallbackDns = {
  search: 'game.test',
  nameservers: ['10.0.0.53:53'],
  family: 'ipv4',
  budgetMs: 1500,
  queriesInFlightMax: 8,
  namesMax: 16,
  fence: { denied: ['127.0.0.0/8'], allowed: [] },
}
const rendered = (config = '', files = FILES, dns: FallbackDns | undefined = DNS) =>
  render(files, generate(rulesOf(parseConfig(config, '')), dns), { processor: 'unix:run/p.sock' })
const routesIn = (text: string): Yaml[] => parse(text).resources[0].virtual_hosts[0].routes
const fallbacks = (text: string): Yaml[] => routesIn(text).filter(({ name }) => name === 'fallback')

test('without it there is nothing of it in what Envoy reads', () => {
  const off = render(FILES, generate(rulesOf(parseConfig('', ''))), { processor: 'unix:run/p.sock' })
  for (const text of Object.values(off))
    assert.doesNotMatch(text, /fallback|zones_by_name|zonegate\.asked|failure_mode/)
})

test('its routes are copies of "forward", between that and the last one, to the cluster of the bootstrap', () => {
  const { routes, bootstrap } = rendered()
  const all = routesIn(routes)
  const forward = all.find(({ name }) => name === 'forward')
  const [cluster] = parse(bootstrap).static_resources.clusters.slice(-1)
  assert.match(cluster.name, /^zones_by_name\./)
  assert.deepEqual(
    all.slice(all.indexOf(forward) - 1).map(({ name }) => name),
    [
      'processor_unavailable',
      'forward',
      'fallback',
      'fallback',
      'processor_unavailable',
      'processor_unavailable',
      'processor_refused',
    ],
  )
  for (const { route, request_headers_to_add, metadata } of fallbacks(routes)) {
    const { host_rewrite: _, ...action } = forward.route
    assert.deepEqual(route, { ...action, cluster: cluster.name, auto_host_rewrite: true })
    assert.deepEqual(request_headers_to_add, forward.request_headers_to_add)
    assert.deepEqual(metadata.filter_metadata.zonegate, { path: 'fallback' })
  }
})

test('where "forward" leaves the client\'s Host, so does it', () => {
  const text = FILES.routes.text.replace(/ +host_rewrite: .*\n/, '')
  const [first] = fallbacks(rendered('', { ...FILES, routes: { ...FILES.routes, text } }).routes)
  assert.equal(first.route.auto_host_rewrite, undefined)
})

test('in front of "forward" a call that ended with an error is refused, but where there was no answer', () => {
  const all = routesIn(rendered().routes)
  const { match } = all[all.findIndex(({ name }) => name === 'forward') - 1]
  const wrong = new RegExp(`^${match.filter_state[0].string_match.safe_regex.regex}$`)
  for (let code = 0; code <= 16; code += 1) {
    const isWrong = ![0, 4, 14].includes(code)
    for (const asked of [`${code} -`, `${code} 0`, `0 ${code}`])
      assert.equal(wrong.test(`${asked} POST/1`), isWrong, asked)
  }
  assert.ok(!wrong.test('- - POST/1'))
})

test('fields of "forward" may be written as in JSON', () => {
  const text = FILES.routes.text
    .replace('host_rewrite:', 'hostRewrite:')
    .replace('prefix: "/"\n        headers:', 'prefix: "/"\n        caseSensitive: false\n        headers:')
    .replace('typed_per_filter_config:', 'typedPerFilterConfig:')
  const routes = fallbacks(rendered('', { ...FILES, routes: { ...FILES.routes, text } }).routes)
  assert.equal(routes.length, 2)
  for (const { route, match, typedPerFilterConfig, ...others } of routes) {
    assert.deepEqual([route.hostRewrite, route.auto_host_rewrite], [undefined, true])
    assert.equal(match.caseSensitive, undefined)
    assert.ok(typedPerFilterConfig.fallback_zone)
    assert.equal(others.typed_per_filter_config, undefined)
  }
})

test('what "forward" demands of a request holds', () => {
  const text = FILES.routes.text.replace(
    '        - name: x-zonegate-route\n          string_match: { safe_regex',
    '        - { name: x-token, string_match: { exact: secret } }\n$&',
  )
  const of = (routes: string): Yaml =>
    fallbacks(rendered('', { ...FILES, routes: { ...FILES.routes, text: routes } }).routes)
  for (const { match } of of(text))
    assert.deepEqual(match.headers, [{ name: 'x-token', string_match: { exact: 'secret' } }])
  const more = text.replace(
    /(name: forward\n +match:\n +)prefix: "\/"/,
    '$1prefix: "/"\n$1filter_state: [{ key: own }]\n$1query_parameters: [{ name: q }]'.replace(
      /\n\$1/g,
      '\n        ',
    ),
  )
  for (const { match } of of(more)) {
    assert.deepEqual(
      match.filter_state.map(({ key }: Yaml) => key),
      ['own', 'zonegate.asked', 'zonegate.asked'],
    )
    assert.deepEqual(match.query_parameters, [{ name: 'q' }])
  }
  assert.deepEqual(of(text.replace(/(name: forward\n +match:\n +prefix: )"\/"/, '$1"/api"')), [])
})

test('an id that is too long for the service of its path goes to no other service', () => {
  const long = `name${'d'.repeat(20)}`
  const routes = fallbacks(rendered(`rules: { services: { ${long}: { paths: [/x] }, default: {} } }`).routes)
  for (const { match } of routes) {
    const { regex } = match.filter_state[1].string_match.safe_regex
    const fits = (id: string): boolean => new RegExp(`^${regex}$`).test(`14 - POST/${id}`)
    assert.ok(fits('a'.repeat(63 - 5 - long.length)))
    assert.ok(!fits('a'.repeat(64 - 5 - long.length)))
  }
})

test('a rule whose ids Envoy might read in another way has none, others have', () => {
  const names = (config: string): string[] =>
    fallbacks(rendered(config).routes).map(
      ({ typed_per_filter_config: { fallback_zone } }) =>
        fallback_zone.request_rules[0].on_header_present.regex_value_rewrite.substitution,
    )
  const rules = (idPattern: string): string =>
    `rules: [{ name: a, match: { paths: [/a] }, idPattern: '${idPattern}' }, { name: b }]`
  assert.deepEqual(names(rules('^\\d+$')), ['zone\\1-a.game.test', 'zone\\1-b.game.test'])
  assert.deepEqual(names(rules('^(?!0)\\d+$')), ['zone\\1-b.game.test'])
})

/** The expression for ids that make a host name of `host`. */
const idsOf = (host: string): RegExp => {
  const [route] = fallbacks(rendered(`rules: { host: '${host}', services: { default: {} } }`).routes)
  const { regex } = route.match.filter_state[1].string_match.safe_regex
  return new RegExp(`^${regex}$`)
}
const FITS: [host: string, id: string, fits: boolean][] = [
  ['zone{id}-{service}.{search}', 'a'.repeat(63 - 12), true],
  ['zone{id}-{service}.{search}', 'a'.repeat(63 - 11), false],
  ['zone{id}-{service}.{search}', '-', false],
  ['zone{id}-{service}.{search}', '-a-', true],
  ['{id}.{search}', '-a', false],
  ['{id}.{search}', 'a-', false],
  ['{id}.{search}', 'a-b', true],
  ['{id}.{search}', 'a', true],
  ['x{id}.{id}y.{search}', 'a-', false],
  ['{id}-{id}.{search}', 'a'.repeat(31), true],
  ['{id}-{id}.{search}', 'a'.repeat(32), false],
]
for (const [host, id, fits] of FITS)
  test(`${id} ${fits ? 'makes' : 'makes no'} host name of ${host}`, () => {
    assert.equal(idsOf(host).test(`14 - POST/${id}`), fits)
    assert.equal(idsOf(host).test(`0 4 POST/${id}`), fits)
    for (const asked of ['13 -', '0 -', '0 0', '0 13', '- -', '14 0'])
      assert.ok(!idsOf(host).test(`${asked} POST/${id}`), asked)
  })
