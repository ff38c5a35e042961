import assert from 'node:assert/strict'
import type { Socket as UdpSocket } from 'node:dgram'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { startNameserver } from '../../demo/nameserver.ts'
import { learnedIds } from '../support/fleet.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { type Load, percentile, startLoad } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'

/** Zones in use are routed inside Envoy: nothing that happens to processor, DNS or receivers costs their requests. */
const ZONES = 100
const IDS = Array.from({ length: ZONES }, (_, index) => String(index + 1))
const CONNECTIONS = 64
/** No pause between two requests of a connection: this is the file for it. */
const PAUSE_MS = 0
/** More than a busy machine's processor takes to start. */
const STALE_SECONDS = 32
const STALE_SECONDS_IN_THE_END = 12
/** A second of TTL, and what a busy machine takes to see it. */
const NONE_WITHIN_MS = (STALE_SECONDS_IN_THE_END + 32) * 1000
const TRY_SECONDS = 3
/** No zone is forgotten by the way: how long a slow machine takes between two uses is not what is tested. */
const IDLE_SECONDS = 600

let gateway: TestGateway
let nameserver: UdpSocket
let dnsPort: number
let port: number
let receivers: Receiver[]
const records: Record<string, readonly string[]> = {}
const name = (id: string): string => `zone${id}-default.game.test`

suite('learned zones', () => {
  before(async () => {
    port = await freePort('127.0.70.1')
    receivers = await Promise.all(['127.0.70.1', '127.0.70.2'].map((host) => startReceiver(host, port)))
    for (const id of IDS) records[name(id)] = ['127.0.70.1']
    for (let i = 1; i <= 1000; i += 1) records[name(`churn${i}`)] = ['127.0.70.1']
    nameserver = await startNameserver('127.0.0.1', await freePort(), records)
    dnsPort = nameserver.address().port
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: {
          nameservers: [`127.0.0.1:${dnsPort}`],
          search: 'game.test',
          ttlSeconds: { min: 1, max: 1 },
          timeoutMs: 2000,
          staleSeconds: STALE_SECONDS,
          negativeTtlSecondsMax: 1,
        },
        learned: { idleSeconds: IDLE_SECONDS, zonesMax: 2000 },
        addresses: { allow: ['127.0.70.0/24'] },
      },
      // Client and receivers share a process here: on a busy machine half a second says nothing of Zonegate.
      edit: {
        'routes.yaml': (text) => text.replace('per_try_timeout: 0.5s', `per_try_timeout: ${TRY_SECONDS}s`),
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await new Promise<void>((done) => nameserver?.close(done))
    await Promise.all((receivers ?? []).map((receiver) => receiver.close()))
  })

  const tick = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))
  const withOutlierDetection = async (): Promise<number> => {
    const response = await fetch(
      `http://127.0.0.1:${gateway.adminPort}/config_dump?resource=dynamic_active_clusters`,
    )
    return (await response.text()).split('"outlier_detection"').length - 1
  }
  const until = async (
    what: string,
    probe: () => Promise<boolean> | boolean,
    withinMs = 60_000,
  ): Promise<void> => {
    const deadline = performance.now() + withinMs
    while (!(await probe())) {
      if (performance.now() > deadline) assert.fail(`not within ${withinMs} ms: ${what}`)
      await tick(50)
    }
  }
  const onlySuccess = (load: Load): void => {
    assert.deepEqual(Object.fromEntries(load.outcomes), { 200: load.outcomes.get('200') })
  }

  test('0 of the requests fail while 100 zones are learned, and then none asks the processor', async () => {
    const load = startLoad(gateway.port, CONNECTIONS, IDS, PAUSE_MS)
    try {
      await until('100 zones are learned', async () => (await learnedIds(gateway)).size >= ZONES)
      onlySuccess(load)
      const requests = () => gateway.stat('cluster.processor.upstream_rq_total')
      let asked = 0
      await until("Envoy's workers have them too", async () => {
        asked = await requests()
        await tick(300)
        return (await requests()) === asked
      })
      load.reset()
      await until('each is used', () => (load.outcomes.get('200') ?? 0) > ZONES)
      assert.equal(await requests(), asked)
      onlySuccess(load)
    } finally {
      await load.stop()
    }
  })

  test('several ids are 403, though the first is that of a learned zone', async () => {
    for (const others of [['2'], ['1'], ['-'], ['2', '3']]) {
      const headers = ['1', ...others].map((id): [string, string] => ['server', id])
      const { status, json } = await call(gateway.port, { headers, body: 'x' })
      assert.deepEqual([status, json()['reason']], [403, 'server_header_invalid'], others.join())
    }
  })

  test('0 fail through kill -9 of the processor, its absence and its restart', async () => {
    const load = startLoad(gateway.port, CONNECTIONS, IDS, PAUSE_MS)
    try {
      await tick(200)
      await gateway.processor?.stop('SIGKILL')
      await tick(700)
      await gateway.startProcessor()
      await until('the new processor has taken over', () =>
        /has zones from an earlier processor/.test(gateway.log('processor')),
      )
      await tick(1500)
      onlySuccess(load)
      assert.equal((await learnedIds(gateway)).size, ZONES)
    } finally {
      await load.stop()
    }
  })

  test('0 fail through SIGTERM of the processor', async () => {
    const load = startLoad(gateway.port, CONNECTIONS, IDS, PAUSE_MS)
    try {
      const part = gateway.processor
      part?.process.kill('SIGTERM')
      await part?.gone
      await tick(300)
      await gateway.startProcessor()
      await tick(500)
      onlySuccess(load)
    } finally {
      await load.stop()
    }
  })

  test("0 fail when every zone's address changes, old receivers stopped once nothing is routed to them", async () => {
    const load = startLoad(gateway.port, CONNECTIONS, IDS, PAUSE_MS)
    try {
      await tick(300)
      for (const id of IDS) records[name(id)] = ['127.0.70.2']
      await until('requests go to the new receivers only', async () => {
        const before = receivers[0]?.requests.length
        await tick(300)
        return receivers[0]?.requests.length === before
      })
      await until(
        'Envoy has closed its idle connections to them: idle_timeout of the cluster',
        async () => (await receivers[0]?.connections()) === 0,
      )
      await receivers[0]?.close()
      await tick(500)
      onlySuccess(load)
    } finally {
      await load.stop()
      receivers[0] = await startReceiver('127.0.70.1', port)
    }
  })

  test('0 fail when every zone gets a second address, with which Envoy takes another cluster, and loses it again', async () => {
    const load = startLoad(gateway.port, CONNECTIONS, IDS, PAUSE_MS)
    const served = (): number => receivers[0]?.requests.length ?? 0
    try {
      await tick(300)
      const before = served()
      for (const id of IDS) records[name(id)] = ['127.0.70.1', '127.0.70.2']
      await until('both receivers have requests', () => served() > before + IDS.length)
      await until(
        'each of the zones has outlier detection',
        async () => (await withOutlierDetection()) >= IDS.length,
      )
      for (const id of IDS) records[name(id)] = ['127.0.70.2']
      await until('requests go to the one left', async () => {
        const all = served()
        await tick(300)
        return served() === all
      })
      onlySuccess(load)
    } finally {
      await load.stop()
    }
  })

  test('0 fail while 1,000 other zones are learned, forgotten and learned again', async () => {
    const load = startLoad(gateway.port, 16, IDS, PAUSE_MS)
    const churn = Array.from({ length: 1000 }, (_, index) => `churn${index + 1}`)
    try {
      for (let round = 0; round < 2; round += 1) {
        for (let i = 0; i < churn.length; i += 50) {
          const replies = await Promise.all(
            churn.slice(i, i + 50).map((id) => call(gateway.port, { headers: [['server', id]], body: 'x' })),
          )
          assert.deepEqual([...new Set(replies.map(({ status }) => status))], [200])
        }
      }
      await until('all are learned', async () => (await learnedIds(gateway)).size >= ZONES + 1000)
      await gateway.configure('learned', { idleSeconds: 6 })
      await until('they are forgotten', async () => (await learnedIds(gateway)).size === ZONES)
      await gateway.configure('learned', { idleSeconds: IDLE_SECONDS })
      onlySuccess(load)
    } finally {
      await load.stop()
    }
  })

  test('an edit of routes.yaml is live on learned zones within seconds, and 0 fail', async () => {
    const slow = createServer(
      (_, response) => void setTimeout(() => response.end('slow'), TRY_SECONDS * 1000 + 500),
    )
    await new Promise<void>((done) => slow.listen(port, '127.0.70.3', done))
    records[name('slow')] = ['127.0.70.3']
    const load = startLoad(gateway.port, 16, IDS, PAUSE_MS)
    try {
      await call(gateway.port, { headers: [['server', 'slow']], body: 'x' })
      await call(gateway.port, { headers: [['server', 'slow']], body: 'x' })
      await until('the slow zone is learned', async () => (await learnedIds(gateway)).has('slow'))
      assert.equal((await call(gateway.port, { headers: [['server', 'slow']], body: 'x' })).status, 504)
      const routes = join(gateway.folder, 'envoy/routes.yaml')
      const good = readFileSync(routes, 'utf8')
      writeFileSync(routes, good.replace(`per_try_timeout: ${TRY_SECONDS}s`, 'per_try_timeout: 20s'))
      await until(
        'it answers',
        async () => (await call(gateway.port, { headers: [['server', 'slow']], body: 'x' })).status === 200,
      )
      writeFileSync(routes, good.replace('num_retries: 1', 'num_retries: many'))
      await until('the fault is told with its line', () =>
        /envoy\/routes\.yaml:\d+:\d+: .*num_retries/.test(gateway.log('processor')),
      )
      assert.equal((await call(gateway.port, { headers: [['server', 'slow']], body: 'x' })).status, 200)
      writeFileSync(routes, good)
      onlySuccess(load)
    } finally {
      await load.stop()
      slow.close()
      slow.closeAllConnections()
    }
  })

  test("one of a zone's two receivers is killed: 0 fail, and the other serves all", async () => {
    records[name('two')] = ['127.0.70.1', '127.0.70.2']
    const load = startLoad(gateway.port, 16, ['two'], PAUSE_MS)
    try {
      await until('it is learned', async () => (await learnedIds(gateway)).has('two'))
      await tick(200)
      const closing = receivers[0]?.close()
      await tick(1000)
      load.reset()
      await tick(500)
      onlySuccess(load)
      await closing
    } finally {
      await load.stop()
      receivers[0] = await startReceiver('127.0.70.1', port)
    }
  })

  test("a zone whose receivers hang costs other zones' requests nothing", async () => {
    let hung = 0
    const hanging: Server = createServer(() => {
      hung += 1
    })
    await new Promise<void>((done) => hanging.listen(port, '127.0.70.4', done))
    records[name('hang')] = ['127.0.70.4']
    const load = startLoad(gateway.port, 8, IDS, 2)
    let flood: Load | undefined
    try {
      flood = startLoad(gateway.port, CONNECTIONS, ['hang'], PAUSE_MS)
      await until('the zone has them all', () => hung >= CONNECTIONS)
      load.reset()
      await until('others are answered meanwhile', () => load.durationsMs.length >= 500)
      onlySuccess(load)
      // One that waits for a hanging zone waits until that is given up.
      const p99 = percentile(load.durationsMs, 99)
      assert.ok(p99 < (TRY_SECONDS * 1000) / 2, `p99 ${p99.toFixed(1)} ms beside the hanging zone`)
    } finally {
      await Promise.all([load.stop(), flood?.stop()])
      hanging.close()
      hanging.closeAllConnections()
    }
  })

  test('restarted with dead nameservers: nothing is withdrawn; nameservers back: all is fresh', async () => {
    const load = startLoad(gateway.port, 16, IDS, PAUSE_MS)
    try {
      await until('all are learned', async () => (await learnedIds(gateway)).size >= ZONES)
      await new Promise<void>((done) => nameserver.close(done))
      await gateway.processor?.stop('SIGKILL')
      await gateway.startProcessor()
      await tick(3000)
      onlySuccess(load)
      assert.ok((await learnedIds(gateway)).size >= ZONES)
      nameserver = await startNameserver('127.0.0.1', dnsPort, records)
      for (const id of IDS) records[name(id)] = ['127.0.70.1']
      await until('new addresses are used', async () => {
        const before = receivers[1]?.requests.length
        await tick(300)
        return receivers[1]?.requests.length === before
      })
      onlySuccess(load)
    } finally {
      await load.stop()
    }
  })

  test('an address is never used longer than staleSeconds past its TTL, though the processor is dead', async () => {
    const load = startLoad(gateway.port, 8, IDS, 5)
    try {
      await gateway.configure('dns', { staleSeconds: STALE_SECONDS_IN_THE_END })
      await tick(4000) // a few times their TTL: all have been told the new time
      await until('all are learned', async () => (await learnedIds(gateway)).size >= ZONES)
      load.reset()
      await gateway.processor?.stop('SIGKILL')
      const killedAt = performance.now()
      await tick(5000)
      onlySuccess(load)
      await until(
        'none is answered',
        async () => {
          load.reset()
          await tick(300)
          return load.durationsMs.length > 0 && !load.outcomes.has('200')
        },
        NONE_WITHIN_MS,
      )
      assert.ok(performance.now() - killedAt < NONE_WITHIN_MS)
      assert.ok(
        [...load.outcomes.keys()].every((outcome) => outcome.startsWith('502')),
        JSON.stringify(Object.fromEntries(load.outcomes)),
      )
      await gateway.startProcessor()
      await until(
        '200 again',
        async () => (await call(gateway.port, { headers: [['server', '1']], body: 'x' })).status === 200,
      )
    } finally {
      await load.stop()
    }
  })
})
