import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** Parts that die, come late or come back, on the cold path: the caller sees defined answers, and Envoy is never touched. */
let gateway: TestGateway
let nameserver: ZoneNameserver
let zone: Receiver

suite('parts that die, come late or come back', () => {
  before(async () => {
    const port = await freePort('127.0.66.1')
    zone = await startReceiver('127.0.66.1', port)
    nameserver = await startZoneNameserver({ 'zone1-default.game.test': ['127.0.66.1'] })
    const dns = { nameservers: [nameserver.address], search: 'game.test' }
    gateway = await startGateway({
      config: { rules: { port }, dns, addresses: { allow: ['127.0.66.0/24'] }, learned: { enabled: false } },
      processor: false,
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    await zone?.close()
  })

  const reasonOf = async (agent?: Agent): Promise<string> => {
    const reply = await call(gateway.port, { headers: [['server', '1']], body: 'x', ...(agent && { agent }) })
    return reply.status === 200 ? '200' : `${reply.status} ${reply.json()['reason']}`
  }

  test('Envoy alone listens without waiting on for a processor, refuses by itself and fails closed', async () => {
    assert.equal(await gateway.stat('cluster_manager.cds.init_fetch_timeout'), 1)
    assert.equal((await call(gateway.port, { method: 'GET' })).status, 405)
    assert.equal((await call(gateway.port)).status, 403)
    assert.equal(await reasonOf(), '502 processor_unavailable')
  })

  test('a processor that comes later is used without touching Envoy; until then it is said to be missing', async () => {
    const seen = new Set<string>()
    // Envoy looks for it every 2 s at most, and gets the cluster of the cold path from it.
    const forwarded = eventually('requests are forwarded', async () => {
      const outcome = await reasonOf()
      seen.add(outcome)
      return outcome === '200'
    })
    await Promise.all([gateway.startProcessor(), forwarded])
    assert.deepEqual([...seen].sort(), ['200', '502 processor_unavailable'])
  })

  test('the socket is for owner and group only', () => {
    assert.equal(statSync(join(gateway.folder, 'run/processor.sock')).mode & 0o777, 0o660)
  })

  test('kill -9 under load: 502 while it is down, 200 again after a restart', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 32 })
    let answeredAfterwards = 0
    const [meanwhile, afterwards] = [new Set<string>(), new Set<string>()]
    let seen = meanwhile
    let running = true
    const worker = async (): Promise<void> => {
      while (running) {
        const began = seen
        began.add(await reasonOf(agent))
        if (began === afterwards) answeredAfterwards += 1
      }
    }
    const workers = Array.from({ length: 32 }, worker)
    const tick = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))
    await tick(300)
    await gateway.processor?.stop('SIGKILL')
    await eventually('it is missed', () => meanwhile.has('502 processor_unavailable'))
    await gateway.startProcessor()
    seen = afterwards
    await eventually('many are answered', () => answeredAfterwards > 200)
    running = false
    await Promise.all(workers)
    agent.destroy()
    assert.deepEqual([...afterwards], ['200'], 'after the restart every request is forwarded')
  })

  test('while the processor is down, callers see nothing but 502 processor_unavailable', async () => {
    await gateway.processor?.stop('SIGKILL')
    const outcomes = await Promise.all(Array.from({ length: 50 }, () => reasonOf()))
    assert.deepEqual([...new Set(outcomes)], ['502 processor_unavailable'])
    await gateway.startProcessor()
  })

  test('SIGTERM: the process ends by itself within 20 s, and the socket is gone', async () => {
    const part = gateway.processor
    assert.ok(part)
    const started = performance.now()
    part.process.kill('SIGTERM')
    assert.equal(await part.gone, 'exit code 0')
    assert.ok(performance.now() - started < 20_000)
    assert.equal(statSync(join(gateway.folder, 'run/processor.sock'), { throwIfNoEntry: false }), undefined)
    assert.match(gateway.log('processor'), /"msg":"stopped"/)
    await gateway.startProcessor()
    assert.equal(await reasonOf(), '200')
  })
})
