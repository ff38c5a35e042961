import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, rawCall } from '../support/http.ts'
import { startLoad } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { eventually, runCli } from '../support/processor.ts'
import { type ScriptedReceiver, startScriptedReceiver } from '../support/scripted-receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/**
 * What `zones` of zonegate.yaml says: pinned, merged, in maintenance, not in DNS. By way of the processor or inside Envoy, a caller
 * gets the same answer, and the zone the same request.
 */
const [IN_DNS, PINNED] = ['127.0.84.1', '127.0.84.2']
const TEXT = `back at 06:00 "sharp" \\ 维护中 <b> %REQ(:path)%`

let cold: TestGateway
let hot: TestGateway
let nameserver: ZoneNameserver
let port: number
let otherPort: number
const receivers = new Map<string, ScriptedReceiver>()

const zonesOf = () => ({
  // DNS has another address for it.
  2: { addresses: [PINNED] },
  // DNS has no such name.
  3: { addresses: [`${PINNED}:${otherPort}`, `${PINNED}:${otherPort}`] },
  '1001-1003, 1005': { as: '1' },
  'mail/5': { as: '6' },
  // Merged into one that is pinned.
  4: { as: '2' },
  7: { maintenance: TEXT, status: 408, retryAfterSeconds: 600 },
  'mail/8': { maintenance: 'mail sleeps' },
  9: { as: '7' },
  denied: { addresses: ['127.0.84.3'] },
  '*': { fallback: '1' },
})

suite('zones', () => {
  before(async () => {
    port = await freePort(IN_DNS)
    otherPort = await freePort(PINNED)
    for (const [host, at] of [
      [IN_DNS, port],
      [PINNED, port],
      [PINNED, otherPort],
    ] as const) {
      const receiver = await startScriptedReceiver(host, at)
      receiver.answer(
        `HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: ${`${host}:${at}`.length}\r\n\r\n${host}:${at}`,
      )
      receivers.set(`${host}:${at}`, receiver)
    }
    nameserver = await startZoneNameserver({
      'zone1-default.game.test': [IN_DNS],
      'zone6-mail.game.test': [IN_DNS],
      'zone2-default.game.test': [IN_DNS],
      'zone5-default.game.test': [IN_DNS],
      'zone8-default.game.test': [IN_DNS],
      'zone8-mail.game.test': [IN_DNS],
    })
    const config = {
      rules: { port },
      zones: zonesOf(),
      dns: { nameservers: [nameserver.address], search: 'game.test' },
      addresses: { allow: ['127.0.84.0/24'] },
    }
    cold = await startGateway({ config: { ...config, learned: { enabled: false } } })
    hot = await startGateway({ config })
  })
  after(async () => {
    await Promise.all([cold?.stop(), hot?.stop()])
    await nameserver?.close()
    for (const receiver of receivers.values()) await receiver.close()
  })

  interface Outcome {
    /** Head and body, without what is random. */
    readonly answer: string
    readonly atZone: readonly string[]
  }
  const sendTo = async (gateway: TestGateway, id: string, path: string): Promise<Outcome> => {
    const counts = new Map([...receivers].map(([name, { requests }]) => [name, requests.length]))
    const request = `POST ${path} HTTP/1.1\r\nhost: x\r\nserver: ${id}\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx`
    const text = await rawCall(gateway.port, request, 250)
    const atZone = [...receivers].flatMap(([name, { requests }]) =>
      requests.slice(counts.get(name)).map((each) => `${name} ${inOrder(each)}`),
    )
    return { answer: inOrder(text), atZone }
  }
  /** Its lines sorted. */
  const inOrder = (message: string): string => {
    const plain = message
      .replace(/^(?:x-request-id|date): .*\r\n/gm, '')
      .replace(/"request_id":"[^"]*"/, '"request_id":"*"')
    const [line = '', ...fields] = plain.split('\r\n')
    const end = fields.indexOf('')
    return [line, ...fields.slice(0, end).sort(), ...fields.slice(end)].join('\r\n')
  }
  const asked = (): Promise<number> => hot.stat('cluster.processor.upstream_rq_total')

  /** The same on both paths. */
  const send = async (id: string, path = '/', isEverHot = true): Promise<Outcome> => {
    const byProcessor = await sendTo(cold, id, path)
    if (isEverHot)
      await eventually(`${path} of ${id} is answered without the processor`, async () => {
        const before = await asked()
        await sendTo(hot, id, path)
        return (await asked()) === before
      })
    const inside = await sendTo(hot, id, path)
    assert.deepEqual(inside, byProcessor, 'a learned zone differs from the way by the processor')
    return inside
  }

  const FORWARDED: [what: string, id: string, to: () => string, path?: string][] = [
    ['of which nothing is said', '1', () => `${IN_DNS}:${port}`],
    ['that is pinned', '2', () => `${PINNED}:${port}`],
    ['that is pinned to a port, and is not in DNS', '3', () => `${PINNED}:${otherPort}`],
    ['that is merged', '1002', () => `${IN_DNS}:${port}`],
    ['that is merged for one service', '5', () => `${IN_DNS}:${port}`, '/mail'],
    ['that is merged into a pinned one', '4', () => `${PINNED}:${port}`],
    ['of which one service is in maintenance: another one', '8', () => `${IN_DNS}:${port}`],
  ]
  for (const [what, id, to, path] of FORWARDED)
    test(`a zone ${what}: the same on both paths`, async () => {
      const { answer, atZone } = await send(id, path)
      assert.match(answer, new RegExp(`^HTTP/1.1 200 OK[\\s\\S]*\r\n\r\n${to()}$`))
      assert.equal(atZone.length, 1)
      assert.ok(atZone[0]?.startsWith(to()), atZone[0])
    })

  const REFUSED: [what: string, id: string, status: string, body: object, path?: string][] = [
    [
      'a zone in maintenance, with a text, a status and a time of its own',
      '7',
      '408 Request Timeout',
      { detail: TEXT, reason: 'maintenance', status: 408, title: 'The zone is in maintenance' },
    ],
    [
      'a zone that is merged into one in maintenance',
      '9',
      '408 Request Timeout',
      { detail: TEXT, reason: 'maintenance', status: 408, title: 'The zone is in maintenance' },
    ],
    [
      'a service in maintenance',
      '8',
      '503 Service Unavailable',
      { detail: 'mail sleeps', reason: 'maintenance', status: 503, title: 'The zone is in maintenance' },
      '/mail',
    ],
  ]
  for (const [what, id, status, body, path] of REFUSED)
    test(`${what}: Envoy answers, the same on both paths`, async () => {
      const { answer, atZone } = await send(id, path)
      assert.deepEqual(atZone, [])
      assert.ok(answer.startsWith(`HTTP/1.1 ${status}\r\n`), answer)
      assert.deepEqual(JSON.parse(Buffer.from(answer.slice(answer.indexOf('{')), 'latin1').toString()), {
        ...body,
        request_id: '*',
      })
      assert.match(answer, /^content-type: application\/problem\+json\r$/m)
      assert.match(answer, /^x-zonegate-reason: maintenance\r$/m)
      assert.equal(/^retry-after: (\d+)\r$/m.exec(answer)?.[1], id === '8' ? undefined : '600')
    })

  test('an id that is not in DNS goes to the fallback, and the processor is asked', async () => {
    for (let round = 0; round < 3; round++) {
      const { answer, atZone } = await send('404404', '/', false)
      assert.match(answer, new RegExp(`\r\n\r\n${IN_DNS}:${port}$`))
      assert.match(atZone[0] ?? '', /^x-zonegate-route: POST\/404404\r$/m)
    }
  })

  test('pinned, unpinned, merged and in maintenance under load: no request fails, and each goes where it is said', async () => {
    const load = startLoad(hot.port, 4, ['1', '2', '5'])
    const goesTo = async (id: string, answer: string): Promise<void> =>
      await eventually(`${id} goes to ${answer}`, async () => {
        const { text, status } = await call(hot.port, { headers: [['server', id]], body: 'x' })
        return (status === 200 ? text : String(status)) === answer
      })
    const pin = (...args: string[]) => runCli(['pin', ...args, '--because', 'a test'], hot.folder)
    try {
      await goesTo('1', `${IN_DNS}:${port}`)
      assert.equal((await pin('1', PINNED, '--for', '1h')).code, 0)
      await goesTo('1', `${PINNED}:${port}`)
      await goesTo('1002', `${PINNED}:${port}`) // merged into it
      assert.equal((await pin('1', `${PINNED}:${otherPort}`, '--for', '1h')).code, 0)
      await goesTo('1', `${PINNED}:${otherPort}`)
      assert.equal((await runCli(['unpin', '1'], hot.folder)).code, 0)
      await goesTo('1', `${IN_DNS}:${port}`)
      await goesTo('1002', `${IN_DNS}:${port}`)
      // A command stands above what the file says, and goes by itself.
      assert.equal((await pin('2', IN_DNS, '--for', '3s')).code, 0)
      await goesTo('2', `${IN_DNS}:${port}`)
      await goesTo('2', `${PINNED}:${port}`)
      await hot.configure('zones', { 5: { as: '2' } })
      await goesTo('5', `${PINNED}:${port}`)
      await hot.configure('zones', { 5: { addresses: [IN_DNS] } })
      await goesTo('5', `${IN_DNS}:${port}`)
      assert.deepEqual([...load.outcomes.keys()], ['200'])
      await hot.configure('zones', { 5: { maintenance: 'moved', status: 503 } })
      await goesTo('5', '503')
      await hot.configure('zones', { 5: { addresses: [PINNED] } })
      await goesTo('5', `${PINNED}:${port}`)
    } finally {
      await load.stop()
    }
    const { 200: fine, '503 maintenance': told = 0, ...failed } = Object.fromEntries(load.outcomes)
    assert.deepEqual(failed, {})
    assert.ok(Number(fine) > 100 && told > 0, `${fine} ${told}`)
  })
})
