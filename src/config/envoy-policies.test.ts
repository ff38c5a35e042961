import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { checkEnvoyFiles, type SourceFile } from './envoy-files.ts'
import { parseConfig } from './load.ts'

const FOLDER = fileURLToPath(new URL('../../envoy/', import.meta.url))
const NAMES = {
  routes: 'routes.yaml',
  clusters: 'clusters.yaml',
  listener: 'listener.yaml',
  bootstrap: 'envoy.yaml',
} as const
type Edits = Partial<Record<keyof typeof NAMES, readonly [from: string, to: string][]>>

/** What `validate` notes about the files as shipped, with edits. */
function notesOf(edits: Edits): string[] {
  const file = (kind: keyof typeof NAMES): SourceFile => {
    let text = readFileSync(`${FOLDER}${NAMES[kind]}`, 'utf8')
    for (const [from, to] of edits[kind] ?? []) {
      assert.ok(text.includes(from), from)
      text = text.replace(from, to)
    }
    return { path: NAMES[kind], text }
  }
  const files = {
    routes: file('routes'),
    clusters: file('clusters'),
    listener: file('listener'),
    bootstrap: file('bootstrap'),
  }
  const { faults, notes } = checkEnvoyFiles(parseConfig('', 'defaults'), files)
  assert.deepEqual(faults, [])
  return notes.map(({ file, key, message }) => `${file} ${key.replace(/^.*\./, '')}: ${message}`)
}

const CHECK =
  '{ timeout: 1s, interval: 1s, no_traffic_interval: 1s, http_health_check: { path: /, host: a } }'
const checks = (check: string): [string, string] => [
  '  lb_policy:',
  `  health_checks: [${check}]\n  lb_policy:`,
]
const ONLY_SEVERAL =
  /^clusters\.yaml health_checks: health checks apply only to learned zones with several addresses/

const LIMIT = {
  type: '"@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: a',
  on: 'filter_enabled: { default_value: { numerator: 100 } }, filter_enforced: { default_value: { numerator: 100 } }',
  bucket: 'token_bucket: { max_tokens: 1, fill_interval: 1s }',
  keys: 'rate_limits: [{ actions: [{ request_headers: { header_name: x-zonegate-route, descriptor_key: zone } }] }]',
  zones: 'descriptors: [{ entries: [{ key: zone }], token_bucket: { max_tokens: 1, fill_interval: 1s } }]',
  many: 'max_dynamic_descriptors: 2000',
} as const
const ALL = Object.keys(LIMIT) as (keyof typeof LIMIT)[]
const limitOf = (parts: readonly (keyof typeof LIMIT)[], disabled = false): string =>
  `        - name: limit\n${disabled ? '          disabled: true\n' : ''}          typed_config: { ${parts.map((part) => LIMIT[part]).join(', ')} }\n`
const inFront = (text: string): [string, string] => [
  '        - name: ext_proc\n',
  `${text}        - name: ext_proc\n`,
]
const behind = (text: string): [string, string] => [
  '        - name: envoy.filters.http.router\n',
  `${text}        - name: envoy.filters.http.router\n`,
]
const without = (part: keyof typeof LIMIT): [string, string] =>
  inFront(limitOf(ALL.filter((each) => each !== part)))

const CASES: readonly [title: string, edits: Edits, notes: readonly RegExp[]][] = [
  ['the files as shipped', {}, []],
  [
    'what sends a request again that a zone has had',
    { routes: [['connect-failure,refused-stream', '5xx, connect-failure,reset,refused-stream']] },
    [/^routes\.yaml retry_on: with 5xx, reset Envoy sends a request again that a zone has already received$/],
  ],
  [
    'a misspelt retry condition',
    { routes: [['connect-failure,refused-stream', 'connect-failures, refused-stream']] },
    [
      /^routes\.yaml retry_on: connect-failures is not a retry condition of Envoy, which ignores it: did you mean connect-failure\?$/,
    ],
  ],
  [
    'an unknown retry condition beside one that sends a request again',
    { routes: [['connect-failure,refused-stream', 'always,unavailable']] },
    [
      /^routes\.yaml retry_on: with unavailable Envoy sends/,
      /^routes\.yaml retry_on: always is not a retry condition of Envoy, which ignores it: expected one of connect-failure, /,
    ],
  ],
  [
    'a back-off with nothing to wait between',
    { routes: [['num_retries: 1', 'retry_back_off: { base_interval: 1s }']] },
    [/^routes\.yaml retry_back_off: num_retries is 1: expected more/],
  ],
  [
    'a back-off with tries',
    { routes: [['num_retries: 1', 'num_retries: 9\n          retry_back_off: { base_interval: 1s }']] },
    [],
  ],
  [
    'a bound for a try that the whole never reaches',
    { routes: [['timeout: 0s', 'timeout: 0.5s']] },
    [/^routes\.yaml per_try_timeout: expected less than the route's timeout \(0\.5s\)/],
  ],
  ['health checks', { clusters: [checks(CHECK)] }, [ONLY_SEVERAL]],
  [
    'health checks with a second one after a minute, and a Host that is none',
    { clusters: [checks('{ timeout: 1s, interval: 1s, http_health_check: { path: / } }')] },
    [
      ONLY_SEVERAL,
      /no_traffic_interval: expected a value: with Envoy's default, the second check of a zone comes after 60 s/,
      /http_health_check: host: expected a value: without it, Envoy sends the cluster's name as Host, such as default\/12/,
    ],
  ],
  ['a rate limit', { listener: [inFront(limitOf(ALL))] }, []],
  [
    'a rate limit that refuses nothing',
    { listener: [without('on')] },
    [/filter_enabled, filter_enforced: expected/],
  ],
  [
    'descriptors that no request gets',
    { listener: [without('keys')] },
    [/ descriptors: expected rate_limits/],
  ],
  [
    'fewer counts than zones',
    { listener: [without('many')] },
    [/max_dynamic_descriptors: expected learned\.zonesMax \(2000\) or more, got 20: /],
  ],
  [
    'a rate limit by a key that has gone by then',
    { listener: [behind(limitOf(ALL))] },
    [/expected before ext_proc: behind it, x-zonegate-route of a request that asked is an address/],
  ],
  [
    'a rate limit that no route turns on',
    { listener: [inFront(limitOf(ALL, true))] },
    [
      /the filter is disabled, and no route enables it: expected limit under typed_per_filter_config of forward/,
    ],
  ],
  [
    'a rate limit of routes',
    {
      listener: [inFront(limitOf(['type'], true))],
      routes: [
        [
          '    domains: ["*"]\n',
          `    domains: ["*"]\n    typed_per_filter_config: { limit: { ${LIMIT.type} } }\n`,
        ],
      ],
    },
    [
      /limit: learned zones can't do this: Envoy would count .*docs\/recipes\/envoy\.md.*; no zone is learned/,
      /disabled, and no route enables it/,
    ],
  ],
]

for (const [title, edits, expected] of CASES)
  test(`${title}: ${expected.length} notes`, () => {
    const notes = notesOf(edits)
    assert.equal(notes.length, expected.length, notes.join('\n'))
    for (const [index, note] of expected.entries()) assert.match(notes[index] ?? '', note)
  })
