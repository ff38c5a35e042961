import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { renderEnvoyConfig } from '../launch/envoy-config.ts'
import { YamlFile } from '../xds/yaml-file.ts'
import { compareAddressFences } from './address-fence.ts'

const SHIPPED = readFileSync(new URL('../../envoy/envoy.yaml', import.meta.url), 'utf8')

const compare = (text: string, allow: readonly string[] = []): string[] =>
  compareAddressFences(new YamlFile({ path: 'envoy.yaml', text }), allow).map((line) => {
    const [, rest] = /^envoy\.yaml:\d+:\d+: (.*)$/.exec(line) ?? []
    assert.ok(rest, line)
    return rest
  })
/** What `npm start` makes of it. */
const rendered = (allow: readonly string[]): string =>
  renderEnvoyConfig(SHIPPED, {
    listen: { host: '127.0.0.1', port: 8101 },
    admin: { host: '127.0.0.1', port: 9901 },
    processor: 'unix:run/processor.sock',
    allow,
  })
const ruleFor = (address: string): RegExp => new RegExp(`^ +- \\{ matcher:.*"${address}".*\\n`, 'm')
const without = (...addresses: string[]): string =>
  addresses.reduce((text, address) => {
    const less = text.replace(ruleFor(address), '')
    assert.notEqual(less, text, address)
    return less
  }, SHIPPED)

const CASES: [title: string, text: string, allow: readonly string[], expected: readonly RegExp[]][] = [
  ['as shipped nothing differs', SHIPPED, [], []],
  [
    'what npm start writes is the same',
    rendered(['127.0.2.0/24', 'fe80::/64']),
    ['127.0.2.0/24', 'fe80::/64'],
    [],
  ],
  [
    'what is allowed here alone',
    SHIPPED,
    ['127.0.2.0/24'],
    [/^policies\.allowed: Envoy itself denies 127\.0\.2\.0\/24 of addresses\.allow; /],
  ],
  [
    'a part of what Envoy allows',
    rendered(['127.0.2.0/24']),
    ['127.0.2.7/32'],
    [/lets through 127\.0\.2\.0\/24, /],
  ],
  [
    'what is allowed in Envoy alone, inside IPv6 too',
    rendered(['127.0.2.0/24']),
    [],
    [
      /^policies\.allowed: Envoy itself lets through 127\.0\.2\.0\/24, ::ffff:127\.0\.2\.0\/120, .*, which the processor denies: not in/,
    ],
  ],
  ['what nobody denies may be allowed in Envoy', rendered(['10.0.0.0/8']), [], []],
  ['all of it allowed in Envoy', rendered(['0.0.0.0/0']), [], [/lets through 0\.0\.0\.0\/0, /]],
  [
    'a rule that is gone',
    without('127.0.0.0'),
    [],
    [
      /^policies\.others: Envoy itself lets through 127\.0\.0\.0\/8, which the processor denies; expected a rule here for each$/,
    ],
  ],
  [
    'a rule for IPv4 says nothing about the same inside IPv6',
    without('::ffff:169.254.0.0', '64:ff9b::169.254.0.0'),
    [],
    [/lets through ::ffff:169\.254\.0\.0\/112, 64:ff9b::169\.254\.0\.0\/112, which/],
  ],
  [
    'a rule that is gone, for what is allowed here too',
    without('ff00::'),
    ['ff00::/8'],
    [/^policies\.allowed: /],
  ],
  ['a rule that has more', SHIPPED.replace('"fe80::", prefix_len: 10', '"fe80::", prefix_len: 9'), [], []],
  [
    'a rule that has less',
    SHIPPED.replace('"fe80::", prefix_len: 10', '"fe80::", prefix_len: 64'),
    [],
    [/lets through fe80::\/10, which/],
  ],
  [
    'rules that are only tried',
    SHIPPED.replace(/^ {12}rules:$/m, '            shadow_rules:'),
    [],
    [/^zones: Envoy itself denies no address: http_filters has no RBAC with rules$/],
  ],
]
for (const [title, text, allow, expected] of CASES)
  test(`${title}: ${expected.length === 0 ? 'no note' : 'a note'}`, () => {
    const lines = compare(text, allow)
    assert.equal(lines.length, expected.length, lines.join('\n'))
    for (const [at, pattern] of expected.entries()) assert.match(lines[at] ?? '', pattern)
  })

test('a file without the cluster is not for this to judge', () =>
  assert.deepEqual(compare('static_resources: {}'), []))
