import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** Clients that come without end, or stay without a word, and what they make Envoy write. Limits are small here. */
const CONNECTIONS_MAX = 6
const LINES_MAX = 10

suite('floods at the edge', () => {
  let gateway: TestGateway
  let nameserver: ZoneNameserver
  let zone: Receiver
  let sockets: Socket[] = []

  before(async () => {
    const port = await freePort('127.0.83.1')
    zone = await startReceiver('127.0.83.1', port)
    nameserver = await startZoneNameserver({ 'zone1-default.game.test': ['127.0.83.1'] })
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: ['127.0.83.1/32'] },
      },
      edit: {
        'envoy.yaml': (text) =>
          text.replace(
            'max_active_downstream_connections: 20000\n',
            `max_active_downstream_connections: ${CONNECTIONS_MAX}\n`,
          ),
        // Never filled again: the number of lines is the same however slow the machine is.
        'refusal-log-rate.yaml': (text) =>
          text
            .replace('max_tokens: 100\n', `max_tokens: ${LINES_MAX}\n`)
            .replace('fill_interval: 1s\n', 'fill_interval: 86400s\n'),
      },
    })
  })
  after(async () => {
    for (const socket of sockets) socket.destroy()
    await gateway?.stop()
    await nameserver?.close()
    await zone?.close()
  })

  const open = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect(gateway.port, '127.0.0.1', () => resolve(socket.resume()))
      socket.once('error', reject)
      socket.on('error', () => undefined)
      sockets.push(socket)
    })

  test('of more connections than the limit the others are closed at once, and those that are there are answered', async () => {
    for (let count = 0; count < 3 * CONNECTIONS_MAX; count++) await open()
    const left = (): Socket[] => sockets.filter(({ closed }) => !closed)
    await eventually('the others are closed', () => left().length <= CONNECTIONS_MAX)
    for (const path of ['/ready', '/stats/prometheus?filter=^server.live$']) {
      const { status } = await fetch(`http://127.0.0.1:${gateway.adminPort}${path}`)
      assert.equal(status, 200, `${path} is not answered while it is full`)
    }
    const [first] = left()
    assert.ok(first, 'none is left')
    const answer = new Promise<string>((resolve) => {
      first.once('data', (chunk) => resolve(chunk.toString('latin1')))
      first.once('close', () => resolve('closed'))
    })
    first.write('POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\ncontent-length: 1\r\n\r\nx')
    assert.match(await answer, /^HTTP\/1\.1 200 /)
    for (const socket of sockets) socket.destroy()
    sockets = []
    await eventually('there is room again', async () => (await attempt()) === 200)
  })

  /** The status of a request on a connection of its own; 0 where it was closed. */
  const attempt = (): Promise<number> =>
    call(gateway.port, { headers: [['server', '1']], body: 'x' }).then(
      ({ status }) => status,
      () => 0,
    )

  test('a flood of refusals writes so many lines, and what zones answer is still logged', async () => {
    const refused = LINES_MAX * 10
    for (let count = 0; count < refused; count++)
      assert.equal((await call(gateway.port, { method: 'GET', path: '/flood' })).status, 405)
    assert.equal((await call(gateway.port, { headers: [['server', '1']], path: '/after' })).status, 200)
    const lines = (path: string): number => gateway.log('envoy').split(`"uri":"${path}"`).length - 1
    await eventually('what came after them is logged', () => lines('/after') === 1)
    assert.equal(lines('/flood'), LINES_MAX)
  })
})

test('a connection that asks nothing is closed when its time is over', async () => {
  const gateway = await startGateway({
    config: { dns: { nameservers: ['127.0.0.1:9'], search: 'game.test' } },
    edit: { 'listener.yaml': (text) => text.replace('idle_timeout: 75s ', 'idle_timeout: 0.3s ') },
  })
  const socket = connect(gateway.port, '127.0.0.1').on('error', () => undefined)
  try {
    socket.resume()
    await eventually('it is closed', () => socket.closed, 5000)
  } finally {
    socket.destroy()
    await gateway.stop()
  }
})
