import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:http'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/**
 * While a zone is hot, requests come that some receiver takes for those of another zone, though they have its id in the place
 * where the rule looks: Envoy must not route them by itself, and the processor refuses them.
 */
const IP = '127.0.93.7'
const ASKED = 'http.callback.ext_proc.streams_started'
const FORM = 'application/x-www-form-urlencoded'
const JSON_TYPE = 'application/json'

interface Sent {
  readonly path?: string
  readonly host?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

const query = (text: string): Sent => ({ path: `/query?${text}` })
const path = (text: string): Sent => ({ path: text })
const cookie = (text: string): Sent => ({ path: '/cookie', headers: { cookie: text } })
const host = (text: string): Sent => ({ path: '/host', host: text })
const form = (body: string, type = FORM): Sent => ({ path: '/form', headers: { 'content-type': type }, body })
const json = (body: string, type = JSON_TYPE): Sent => ({
  path: '/json',
  headers: { 'content-type': type },
  body,
})
const either = (text: string): Sent => ({ path: `/either${text}`, headers: { server: '7' } })

const RULES: [name: string, rule: object, plain: Sent, odd: readonly Sent[]][] = [
  [
    'query',
    { match: { paths: ['/query'] }, id: { query: 'zone_id' } },
    query('zone_id=7'),
    [
      ...[
        'zone_id=7&zone_id=8',
        'zone_id=7&Zone_Id=8',
        'zone_id=7&zone%5fid=8',
        'zone_id=7&zone.id=8',
        'zone_id=7&zone_id[]=8',
      ],
      ...[
        'zone_id=7&+zone_id=8',
        'zone_id=7&a=1;zone_id=8',
        'zone_id=7&%u007aone_id=8',
        'zone_id=7&zone_id%00=8',
      ],
    ].map(query),
  ],
  [
    'path',
    { match: { paths: ['/path/*'] }, id: { path: '/path/{id}/*' } },
    path('/path/7/x'),
    [
      '/path/7/../8/x',
      '/path/7/%2e%2e/8/x',
      '/path/7/..;/8/x',
      '/path/7/..\\8\\x',
      '/path/7/a/..',
      '/path/7/a%2fb',
    ].map(path),
  ],
  [
    'cookie',
    { match: { paths: ['/cookie'] }, id: { cookie: 'zone_id' } },
    cookie('zone_id=7'),
    [
      ...[
        'zone_id=7; zone_id=8',
        'zone_id=7; Zone_Id=8',
        'zone_id=7,zone_id=8',
        'zone_id=7; a=1,zone_id=8',
        'Zone_Id=7',
      ],
      ...['zone_id=7; zone%5fid=8', 'zone_id=7; zone.id=8', 'zone_id=7; zone_id[]=8'],
    ].map(cookie),
  ],
  [
    'host',
    { match: { paths: ['/host'] }, id: { host: '{id}.cb.test' } },
    host('7.cb.test'),
    ['7.cb.test.', '7.cb.test.:80', '7.cb.test@8.cb.test'].map(host),
  ],
  [
    'form',
    { match: { paths: ['/form'] }, id: { form: 'zone_id' } },
    form('a=1&zone_id=7'),
    [
      ...[
        'zone_id=7&zone_id=8',
        'zone_id=7&Zone_Id=8',
        'zone_id=7&zone%5fid=8',
        'zone_id=7&zone.id=8',
        'zone_id[]=8&zone_id=7',
        'zone_id=8&zone_id=7',
      ],
      ...['zone_id=7&+zone_id=8', 'zone_id=7&a=1;zone_id=8'],
    ]
      .map((text) => form(text))
      .concat(
        form('zone_id=7', `${FORM}; charset=ibm037`),
        form('zone_id=7', `${FORM} x`),
        form('zone_id=7', `${FORM}, x`),
      ),
  ],
  [
    'json',
    { match: { paths: ['/json'] }, id: { json: '/ask/zone' } },
    json('{"ask":{"zone":7}}'),
    [
      ...[
        '{"ask":{"zone":7,"zone":8}}',
        '{"ask":{"zone":8,"zone":7}}',
        '{"ask":{"zone":7,"ZONE":8}}',
        '{"ask":{"zone":7},"Ask":{"zone":8}}',
      ],
      ...[
        '{"ask":{"zone":7},"a\\u017fk":{"zone":8}}',
        '{"ask":{"zone":7},"a\u017fk":{"zone":8}}',
        '{"ask":{"zone":7,"zone\\u0000":8}}',
      ],
      ...[
        '{"ask":{"zone":7,"\\u007aone":8}}',
        '{"ask":{"zone":7.0}}',
        '\ufeff{"ask":{"zone":7}}',
        '{"ask":{"zone":7},}',
      ],
    ]
      .map((text) => json(text))
      .concat(
        json('{"ask":{"zone":7}}', `${JSON_TYPE}; charset=utf-7`),
        json('{"ask":{"zone":7}}', `${JSON_TYPE} x`),
      ),
  ],
  [
    'either',
    { id: [{ query: 'zone_id' }, { path: '/either/{id}/*' }, { header: 'server' }] },
    either(''),
    [
      '?zone_id=8&zone_id=8',
      '?Zone_Id=8',
      '?a=1;zone_id=8',
      '?zone_id[]=8',
      '?zone.id=8',
      '/8/../7/x',
      '//8/x',
      '/%38/x',
      ';a/8/x',
    ].map(either),
  ],
]

/** Their receivers all read the same, and yet Envoy does not read it. */
const SPELLED: [name: string, sent: Sent][] = [
  ['query', query('a%20b=1&zone_id=7')],
  ['path', path('/path/7/a%20b')],
  ['cookie', cookie('a=1; zone_id=7')],
  ['form', form('zone_id=%37')],
  ['json', json('{"ask":{"zone":"7"},"a":"\\u0061"}')],
  ['either', either('?zone_ids=1')],
]

for (const sharedRoutes of [false, true])
  suite(sharedRoutes ? 'virtual hosts of many ids' : 'a virtual host for each id', () => {
    let gateway: TestGateway
    let nameserver: ZoneNameserver
    let zone: Server

    before(async () => {
      const port = await freePort()
      zone = createServer((_, response) => response.end('7'))
      await new Promise<void>((resolve) => zone.listen(port, IP, resolve))
      nameserver = await startZoneNameserver(
        Object.fromEntries(
          RULES.flatMap(([name]) => ['7', '8'].map((id) => [`zone${id}-${name}.game.test`, [IP]])),
        ),
      )
      gateway = await startGateway({
        config: {
          rules: RULES.map(([name, rule]) => ({ name, ...rule, port })),
          dns: { nameservers: [nameserver.address], search: 'game.test' },
          addresses: { allow: ['127.0.93.0/24'] },
          learned: { sharedRoutes },
        },
      })
    })
    after(async () => {
      await gateway?.stop()
      await nameserver?.close()
      zone.close()
      zone.closeAllConnections()
    })

    async function statusOf({ path = '/', host, headers = {}, body }: Sent): Promise<number> {
      const all = [...Object.entries(headers), ...(host === undefined ? [] : [['host', host] as const])]
      return (await call(gateway.port, { path, headers: all, ...(body !== undefined && { body }) })).status
    }

    for (const [name, , plain, odd] of RULES)
      test(`${name}: a hot zone's id in a request that a receiver may read differently: refused`, async () => {
        await eventually('hot', async () => {
          assert.equal(await statusOf(plain), 200)
          return JSON.stringify(await explained(plain)).includes('hot')
        })
        const asked = await gateway.stat(ASKED)
        assert.equal(await statusOf(plain), 200)
        assert.equal(await gateway.stat(ASKED), asked, 'it is hot')
        for (const sent of odd) {
          const status = await statusOf(sent)
          assert.ok(status === 403 || status === 400, `${status}: ${JSON.stringify(sent)}`)
        }
        assert.ok((await gateway.stat(ASKED)) > asked, 'the processor was asked')
      })

    for (const [name, sent] of SPELLED)
      test(`${name}: a hot zone's id that Envoy does not read is forwarded, cold, and explain says why`, async () => {
        const asked = await gateway.stat(ASKED)
        assert.equal(await statusOf(sent), 200)
        assert.equal(await gateway.stat(ASKED), asked + 1)
        const plain = RULES.find(([rule]) => rule === name)?.[2] ?? {}
        assert.deepEqual(await explained(sent), [
          { envoy: 'zonegate-envoy', route: 'cold', reason: 'spelling' },
        ])
        assert.deepEqual(await explained(plain), [{ envoy: 'zonegate-envoy', route: 'hot' }])
      })

    async function explained({ path = '/', host, headers = {}, body }: Sent): Promise<unknown> {
      const reply = await fetch(`http://127.0.0.1:${gateway.httpPort}/api/explain`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          path,
          ...(host !== undefined && { host }),
          headers: Object.entries(headers).map(([key, value]) => `${key}: ${value}`),
          ...(body !== undefined && { bodyBase64: Buffer.from(body).toString('base64') }),
        }),
      })
      return ((await reply.json()) as { envoys: unknown }).envoys
    }
  })
