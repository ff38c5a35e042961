import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { type Call, call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** A key has what stands in the place of an id. What stands beside it there, a client keeps to itself. */
const IP = '127.0.98.1'
const SECRET = /hush-\d/

const REQUESTS: [name: string, id: object, match: string, sent: Call][] = [
  ['path', { path: '/path/{id}/*' }, '/path/*', { path: '/path/7/a?token=hush-1' }],
  ['path', { path: '/whole/{id}' }, '/whole/*', { path: `/whole/7?token=hush-2` }],
  ['query', { query: 'zone' }, '/query', { path: `/query?zone=7&token=hush-3` }],
  ['cookie', { cookie: 'zone' }, '/cookie', { path: '/cookie', headers: [['cookie', `zone=7; s=hush-4`]] }],
  ['host', { host: '{id}.cb.test' }, '/host', { path: `/host?t=hush-5`, headers: [['host', '7.cb.test']] }],
  [
    'form',
    { form: 'zone' },
    '/form',
    {
      path: '/form',
      headers: [['content-type', 'application/x-www-form-urlencoded']],
      body: `zone=7&token=hush-6`,
    },
  ],
]

let gateway: TestGateway
let nameserver: ZoneNameserver
let receiver: Receiver

before(async () => {
  const port = await freePort(IP)
  receiver = await startReceiver(IP, port)
  nameserver = await startZoneNameserver({ 'zone7-all.game.test': [IP] })
  gateway = await startGateway({
    config: {
      rules: REQUESTS.map(([, id, match], index) => ({
        name: `rule${index}`,
        match: { paths: [match] },
        id,
        host: 'zone{id}-all.{search}',
        port,
      })),
      dns: { nameservers: [nameserver.address], search: 'game.test' },
      addresses: { allow: [`${IP}/32`] },
      log: { level: 'debug' },
    },
  })
})
after(async () => {
  await gateway?.stop()
  await nameserver?.close()
  await receiver?.close()
})

for (const [name, , match, sent] of REQUESTS)
  test(`an id in the ${name} (${match}): nothing beside it is logged, cold or hot`, async () => {
    const isHot = new RegExp(
      `"uri":"${match.replace('*', '7')}[^"]*".*"path":"hot"|"path":"hot".*"uri":"${match.replace('*', '7')}`,
    )
    await eventually('a hot request is logged', async () => {
      assert.equal((await call(gateway.port, sent)).status, 200)
      return isHot.test(gateway.log('envoy'))
    })
    const odd = { ...sent, path: `${sent.path}${sent.path?.includes('?') ? '&' : '?'}%7aone=8` }
    await call(gateway.port, odd)
    const [secret = 'none'] = SECRET.exec(JSON.stringify(sent)) ?? []
    const lines = [...gateway.log('envoy').split('\n'), ...gateway.log('processor').split('\n')]
    assert.equal(
      lines.find((line) => line.includes(secret)),
      undefined,
    )
  })
