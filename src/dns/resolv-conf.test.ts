import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseResolvConf, type ResolvConf, type ResolverEnvironment } from './resolv-conf.ts'

function parse(text: string, environment: ResolverEnvironment = {}): ResolvConf {
  const conf = parseResolvConf(text, environment)
  assert.ok(!('invalid' in conf), JSON.stringify(conf))
  return conf
}

const facts: [string, string, Partial<ResolvConf>, ResolverEnvironment?][] = [
  [
    'the first three nameservers count',
    'nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n',
    { nameservers: ['10.0.0.1', '10.0.0.2', '10.0.0.3'], ignored: ['nameserver 10.0.0.4'] },
  ],
  [
    'IPv6 nameservers keep their scope id',
    'nameserver fe80::1%eth0\nnameserver ::1',
    { nameservers: ['fe80::1%eth0', '::1'] },
  ],
  [
    'a nameserver that is no address is left out',
    'nameserver ns.test\nnameserver 10.0.0.1 # ours\n',
    { nameservers: ['10.0.0.1'], ignored: ['nameserver ns.test'] },
  ],
  ['no nameserver line is said as none', 'search game.test\n', { nameservers: [] }],
  [
    'of search and domain the last one wins',
    'search a.test b.test\ndomain c.test d.test\n',
    { search: ['c.test'] as never },
  ],
  [
    'search domains lose their final dot and their capitals',
    'domain x.test\nsearch Game.Test. b.test\r\n',
    { search: ['game.test', 'b.test'] as never },
  ],
  [
    'a byte order mark hides nothing, nor do the line ends of other systems',
    '\uFEFFnameserver 10.0.0.1\r\nnameserver 10.0.0.2\r\noptions timeout:3 rotate\r\n',
    { nameservers: ['10.0.0.1', '10.0.0.2'], timeoutMs: 3000, rotate: true, ignored: [] },
  ],
  [
    'lines may end with CR alone',
    'nameserver 10.0.0.1\r# nameserver 10.0.0.2\rnameserver 10.0.0.3\r',
    { nameservers: ['10.0.0.1', '10.0.0.3'], ignored: [] },
  ],
  [
    'the variables may have the line ends of the file that they come from',
    'nameserver 10.0.0.1',
    { search: ['game.test', 'b.test'] as never, attempts: 3, ignored: [] },
    { LOCALDOMAIN: 'game.test b.test\r', RES_OPTIONS: 'attempts:3\r\n' },
  ],
  ['the root is no search domain', 'search .\nnameserver 10.0.0.1', { search: [] }],
  [
    'comments begin in column 1',
    '# nameserver 10.0.0.1\n; nameserver 10.0.0.2\nnameserver 10.0.0.3\n',
    { nameservers: ['10.0.0.3'], ignored: [] },
  ],
  [
    'a keyword counts in column 1 only',
    ' nameserver 10.0.0.1\nnameserver 10.0.0.2',
    { nameservers: ['10.0.0.2'], ignored: ['nameserver 10.0.0.1'] },
  ],
  [
    'tabs separate too',
    'nameserver\t10.0.0.1\noptions\ttimeout:1\tattempts:3',
    { nameservers: ['10.0.0.1'], timeoutMs: 1000, attempts: 3 },
  ],
  [
    'defaults are those of glibc',
    'nameserver 10.0.0.1',
    { timeoutMs: 5000, attempts: 2, rotate: false, useTcp: false, reload: true },
  ],
  ['timeout and attempts are capped', 'options timeout:99 attempts:99', { timeoutMs: 30_000, attempts: 5 }],
  ['timeout 0 and attempts 0 are one', 'options timeout:0 attempts:0', { timeoutMs: 1000, attempts: 1 }],
  [
    'options add up over lines',
    'options rotate\noptions use-vc edns0 no-reload',
    { rotate: true, useTcp: true, reload: false, ignored: [] },
  ],
  [
    'other options are named',
    'options ndots:5 trust-ad timeout:x\nsortlist 10.0.0.0',
    { ignored: ['options ndots:5', 'options trust-ad', 'options timeout:x', 'sortlist 10.0.0.0'] },
  ],
  [
    'LOCALDOMAIN overrides search',
    'search a.test',
    { search: ['b.test', 'c.test'] as never },
    { LOCALDOMAIN: 'b.test c.test' },
  ],
  [
    'RES_OPTIONS overrides options',
    'options timeout:9 attempts:4',
    { timeoutMs: 2000, attempts: 4, rotate: true },
    { RES_OPTIONS: 'timeout:2 rotate' },
  ],
]
for (const [fact, text, expected, environment] of facts) {
  test(fact, () => {
    const conf = parse(text, environment)
    for (const [key, value] of Object.entries(expected))
      assert.deepEqual(conf[key as keyof ResolvConf], value, key)
  })
}

for (const text of [
  '',
  '\n \n',
  'nonsense',
  'nameserver ns.test',
  'nameserver 10.0.0.1\0',
  '<html></html>',
]) {
  test(`${JSON.stringify(text)} is no resolv.conf`, () => assert.ok('invalid' in parseResolvConf(text, {})))
}
