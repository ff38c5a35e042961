import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { startLoad } from '../support/load.ts'
import { a, type Script, type ScriptedNameserver, soa, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'

/** A scan of random ids, by real requests: short, and against a low limit. `npm run scan` is the long one. */
const HOST = '127.0.74.1'
const KNOWN = Array.from({ length: 8 }, (_, index) => `known${index}`)
const LIMIT = { queriesPerSecond: 20, queriesBurst: 40 }
const SCAN_MS = 2500

let gateway: TestGateway
let receiver: Receiver
let nameserver: ScriptedNameserver

const isKnown = (name: string): boolean => name.startsWith('zoneknown')
const wildcard: Script = (query) => query.reply({ answers: [a(query.name, HOST, 1)] })
const onlyKnown: Script = (query) =>
  isKnown(query.name) ? wildcard(query) : query.reply({ rcode: 3, authorities: [soa('game.test', 30)] })
const tick = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))

/** Ids that Envoy routes by itself. */
async function hotIds(): Promise<string[]> {
  const url = `http://127.0.0.1:${gateway.adminPort}/config_dump?resource=dynamic_route_configs`
  const text = await (await fetch(url)).text()
  return [...text.matchAll(/"name": "zonegate\/(known\d)"/g)].map(([, id]) => String(id)).sort()
}

suite('a scan of random ids', () => {
  before(async () => {
    const port = await freePort(HOST)
    receiver = await startReceiver(HOST, port)
    nameserver = await startNameserver(onlyKnown)
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: {
          nameservers: [nameserver.address],
          search: 'game.test',
          ttlSeconds: { min: 1, max: 1 },
          unknownNames: LIMIT,
        },
        addresses: { allow: ['127.0.74.0/24'] },
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await Promise.all([nameserver?.stop(), receiver?.close()])
  })

  for (const [kind, script, admitted] of [
    ['NXDOMAIN', onlyKnown, '502 name_not_found'],
    ['wildcard DNS', wildcard, '200'],
  ] as const) {
    test(`over ${kind}: nameservers see what the limit allows; zones in use all answer and stay in Envoy`, async () => {
      nameserver.script = script
      const known = startLoad(gateway.port, 2, KNOWN, 10)
      const deadlineMs = performance.now() + 10_000
      while ((await hotIds()).length < KNOWN.length && performance.now() < deadlineMs) await tick(100)
      known.reset()
      const [seenBefore, startedMs] = [nameserver.queries.length, performance.now()]
      const ids = Array.from({ length: 20_000 }, () => `x${Math.random().toString(36).slice(2)}`)
      const scan = startLoad(gateway.port, 16, ids)
      await tick(SCAN_MS)
      await scan.stop()
      const seconds = (performance.now() - startedMs) / 1000
      await known.stop()

      const seen = nameserver.queries.slice(seenBefore)
      const unknown = seen.filter(({ name }) => !isKnown(name)).length
      const allowed = LIMIT.queriesBurst + LIMIT.queriesPerSecond * seconds
      assert.ok(unknown <= allowed, `${unknown} queries, ${allowed} allowed`)
      const refused = scan.outcomes.get('502 lookup_rate_limited') ?? 0
      assert.ok(refused > allowed, `${scan.durationsMs.length} ids in ${seconds} s are no scan`)
      assert.equal(scan.outcomes.get(admitted), unknown, JSON.stringify([...scan.outcomes]))
      assert.equal(scan.outcomes.size, 2, JSON.stringify([...scan.outcomes]))

      assert.deepEqual([...known.outcomes.keys()], ['200'])
      assert.deepEqual(await hotIds(), KNOWN)
      // Their TTL is a second, and they went on being asked for.
      const refreshes = seen.filter(({ name }) => isKnown(name)).length
      assert.ok(refreshes >= KNOWN.length, `${refreshes} refreshes`)
    })
  }
})
