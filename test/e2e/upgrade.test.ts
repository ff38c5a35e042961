import assert from 'node:assert/strict'
import { openSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, connect as dial, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { stringify } from 'yaml'
import { type Part, startProcessor, untilReady } from '../../src/launch/instance.ts'
import { type Checkout, startCheckout } from '../support/checkout.ts'
import { type Fleet, learnedIds, startFleet } from '../support/fleet.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { type Load, startLoad } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** The next version takes over under load, part by part and whole: no request fails. */
const ZONES = 50
const CONNECTIONS = 16
const ids = Array.from({ length: ZONES }, (_, index) => `u${index + 1}`)

let nameserver: ZoneNameserver
let receiver: Receiver
let config: Record<string, unknown>

const tick = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))
const onlySuccess = (load: Load): void => {
  const answered = load.outcomes.get('200') ?? 0
  assert.ok(answered > 100, `${answered} requests`)
  assert.deepEqual(Object.fromEntries(load.outcomes), { 200: answered })
}
const warm = async (gateway: { port: number; adminPort: number }): Promise<void> => {
  for (let round = 0; round < 2; round += 1)
    for (const id of ids)
      assert.equal((await call(gateway.port, { headers: [['server', id]], body: 'x' })).status, 200)
  await eventually('every zone is learned', async () => (await learnedIds(gateway)).size === ZONES)
}

suite('upgrades under load', () => {
  before(async () => {
    const port = await freePort('127.0.72.1')
    receiver = await startReceiver('127.0.72.1', port, (request, response) => {
      request.resume()
      response.end('ok')
    })
    nameserver = await startZoneNameserver(
      Object.fromEntries(ids.map((id) => [`zone${id}-default.game.test`, ['127.0.72.1']])),
    )
    config = {
      rules: { port },
      dns: { nameservers: [nameserver.address], search: 'game.test', ttlSeconds: { min: 1, max: 2 } },
      addresses: { allow: ['127.0.72.0/24'] },
    }
  })
  after(async () => {
    await nameserver?.close()
    await receiver?.close()
  })

  test('an Envoy that changes to another processor keeps every zone, and 0 fail', async () => {
    const gateway = await startGateway({ config, processor: false })
    const parts: Part[] = []
    let relay: Relay | undefined
    try {
      for (const name of ['a', 'b']) parts.push(await startProcessorBeside(gateway, name))
      relay = await startRelay(join(gateway.folder, 'run/processor.sock'))
      relay.leadTo(join(gateway.folder, 'run/a.sock'))
      await eventually('Envoy is connected', async () => {
        const { status } = await call(gateway.port, { headers: [['server', 'u1']], body: 'x' })
        return status === 200
      })
      await warm(gateway)
      const load = startLoad(gateway.port, CONNECTIONS, ids)
      const sizes = new Set<number>()
      try {
        await tick(300)
        relay.leadTo(join(gateway.folder, 'run/b.sock'))
        const log = (): string => readFileSync(join(gateway.folder, 'b.log'), 'utf8')
        await eventually('the other one has taken over', async () => {
          sizes.add((await learnedIds(gateway)).size)
          return /has zones from an earlier processor/.test(log())
        })
        await parts[0]?.stop('SIGKILL')
        // Long enough for addresses to be asked for again, and for a zone to be withdrawn that was not taken over.
        for (let i = 0; i < 30; i += 1) {
          sizes.add((await learnedIds(gateway)).size)
          await tick(100)
        }
        onlySuccess(load)
        assert.deepEqual([...sizes], [ZONES], 'at no time was a zone withdrawn')
      } finally {
        await load.stop()
      }
    } finally {
      await relay?.close()
      await Promise.all(parts.map((part) => part.stop('SIGKILL')))
      await gateway.stop()
    }
  })

  test('each Envoy behind a balancer is drained and replaced, and 0 fail', async () => {
    let fleet: Fleet | undefined
    try {
      fleet = await startFleet(2, { config })
      for (const pod of fleet.pods) await warm(pod)
      const load = startLoad(fleet.port, CONNECTIONS, ids)
      try {
        for (const pod of fleet.pods) {
          await fleet.replaceEnvoy(pod)
          await eventually('it has every zone again', async () => (await learnedIds(pod)).size === ZONES)
          await tick(300)
        }
        onlySuccess(load)
      } finally {
        await load.stop()
      }
    } finally {
      await fleet?.stop()
    }
  })

  test('on one machine alone the next version starts beside the old one, which is then stopped, and 0 fail', async () => {
    const [port, adminPort] = [await freePort(), await freePort()]
    const starts: Checkout[] = []
    try {
      starts.push(await startCheckout({ config, port, adminPort }))
      await warm({ port, adminPort })
      const nextAdmin = await freePort()
      const fresh = startLoad(port, 4, ids, 5)
      const load = startLoad(port, CONNECTIONS, ids)
      try {
        starts.push(await startCheckout({ config, port, adminPort: nextAdmin, args: ['--reuse-port'] }))
        await tick(300)
        const old = starts[0]?.child
        const ended = new Promise((resolve) => old?.once('exit', resolve))
        old?.kill('SIGTERM')
        assert.equal(await ended, 0)
        await tick(500)
        onlySuccess(load)
        onlySuccess(fresh)
        await eventually('the next one has every zone', async () => {
          return (await learnedIds({ adminPort: nextAdmin })).size === ZONES
        })
      } finally {
        await Promise.all([load.stop(), fresh.stop()])
      }
    } finally {
      for (const start of starts) await start.stop()
    }
  })

  test('without --reuse-port a second start on the same port is refused, and told', async () => {
    const [port, adminPort] = [await freePort(), await freePort()]
    const holder = createServer()
    await new Promise<void>((done) => holder.listen({ port, host: '127.0.0.1', reusePort: true }, done))
    try {
      await assert.rejects(startCheckout({ config, port, adminPort }), /\(--listen\) is in use/)
    } finally {
      holder.close()
    }
  })
})

async function startProcessorBeside(gateway: TestGateway, name: string): Promise<Part> {
  const port = await freePort()
  const listen = { http: `127.0.0.1:${port}`, grpc: `unix:run/${name}.sock` }
  writeFileSync(join(gateway.folder, `${name}.yaml`), stringify({ ...config, listen }))
  const output = openSync(join(gateway.folder, `${name}.log`), 'a')
  const part = startProcessor(gateway.folder, `${name}.yaml`, output, gateway.environment)
  await untilReady(part, '127.0.0.1', port, '/readyz')
  return part
}

interface Relay {
  /** New connections lead there, those that are open end. */
  leadTo(path: string): void
  close(): Promise<void>
}

/** Where Envoy believes the processor to be. */
async function startRelay(path: string): Promise<Relay> {
  let target = ''
  const sockets = new Set<Socket>()
  const server: Server = createServer((near) => {
    const far = dial(target)
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        near.destroy()
        far.destroy()
        sockets.delete(socket)
      })
    }
    near.pipe(far).pipe(near)
  })
  await new Promise<void>((done) => server.listen(path, done))
  const cut = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    leadTo: (next) => {
      target = next
      cut()
    },
    close: () =>
      new Promise((done) => {
        server.close(() => done())
        cut()
      }),
  }
}
