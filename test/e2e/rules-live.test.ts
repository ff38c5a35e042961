import assert from 'node:assert/strict'
import type { Socket as UdpSocket } from 'node:dgram'
import { renameSync, writeFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { stringify } from 'yaml'
import { startNameserver } from '../../demo/nameserver.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { type Load, percentile, startLoadOf } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { slowness } from '../support/slowness.ts'

/** Rules are saved again and again while requests flow, every second time with a mistake. */

const ADDRESS = '127.0.82.1'
/** Each place of the id twice, and each mistake. */
const SAVES = 16
const LINES = 8
/** In force on both paths within 2 s; a machine that is busy with other tests may take longer by so much. */
const WITHIN_MS = 2000
const SLOW_MACHINE = 5
const TIMEOUT_MS = 300_000

let gateway: TestGateway
let nameserver: UdpSocket
let receiver: Receiver
let load: Load | undefined
let port: number
let agent: Agent

const host = 'zone{id}-{service}.{search}'
/** What every valid version has: its requests are the load. */
const lasting = (): [object, object] => [
  { name: 'pay', match: { paths: ['/pay/*'] }, id: { query: 'id' }, host, port },
  {
    name: 'web',
    match: { paths: ['/web/*'] },
    id: [{ header: 'x-zone' }, { path: '/web/{id}/*' }],
    host,
    port,
  },
]
/** And what one has alone: another place of the id in each. */
const changing = (version: number) => {
  const places = [
    { query: `q${version}` },
    { cookie: `c${version}` },
    { path: `/v/{id}/${version}` },
    { query: `r${version}` },
  ]
  return { name: 'new', match: { paths: ['/v/*'] }, id: places[version % places.length], host, port }
}
const requestOf = (version: number, id: string): Parameters<typeof call>[1] => {
  const requests = [
    { path: `/v/x?q${version}=${id}` },
    { path: '/v/x', headers: [['cookie', `c${version}=${id}`]] as [string, string][] },
    { path: `/v/${id}/${version}` },
    { path: `/v/x?r${version}=${id}` },
  ]
  return { ...requests[version % requests.length], agent }
}

suite('rules that are saved under load', { timeout: TIMEOUT_MS }, () => {
  before(async () => {
    port = await freePort(ADDRESS)
    receiver = await startReceiver(ADDRESS, port)
    agent = new Agent({ keepAlive: true, maxSockets: LINES })
    const names = ['1', '2', 'cold'].flatMap((id) =>
      ['pay', 'web', 'new'].map((service) => `zone${id}-${service}.game.test`),
    )
    nameserver = await startNameserver(
      '127.0.0.1',
      await freePort(),
      Object.fromEntries(names.map((name) => [name, [ADDRESS]])),
    )
    gateway = await startGateway({ config: configOf([...lasting(), changing(0)]) })
  })
  after(async () => {
    await load?.stop()
    await gateway?.stop()
    agent?.destroy()
    await new Promise<void>((done) => (nameserver === undefined ? done() : nameserver.close(() => done())))
    await receiver?.close()
  })

  const configOf = (rules: readonly object[]) => ({
    rules,
    dns: { nameservers: [`127.0.0.1:${nameserver.address().port}`], search: 'game.test' },
    addresses: { allow: ['127.0.82.0/24'] },
  })
  const save = (text: string): void => {
    const file = join(gateway.folder, 'zonegate.yaml')
    writeFileSync(`${file}.new`, text)
    renameSync(`${file}.new`, file)
  }
  const valid = (version: number): string =>
    stringify({
      ...configOf([...lasting(), changing(version)]),
      listen: { http: `127.0.0.1:${gateway.httpPort}` },
    })
  const invalid = (version: number): string => {
    const text = valid(version)
    const [pay, web] = lasting()
    const breaks = [
      () => `${text}\nrules: [`,
      () => text.replace('name: web', 'nome: web'),
      () =>
        stringify({
          ...configOf([{ ...pay, match: undefined }, web]),
          listen: { http: `127.0.0.1:${gateway.httpPort}` },
        }),
      () => text.replace('name: pay', 'name: pay\n    idPattern: "("'),
    ]
    return breaks[version % breaks.length]?.() ?? ''
  }
  /** By the processor, of the changing rule alone. */
  const decisionsOf = async (): Promise<number> => {
    const rule =
      (await gateway.status()).rules.find(({ name }) => name === 'new') ?? assert.fail('the rule is there')
    return Object.values(rule.refused).reduce((sum, count) => sum + count, rule.forwarded)
  }
  /** Milliseconds until a request with this id is forwarded. */
  const within = async (what: string, version: number, id: string, savedMs: number): Promise<number> => {
    await eventually(what, async () => (await call(gateway.port, requestOf(version, id))).status === 200)
    return performance.now() - savedMs
  }

  test(`${SAVES} saves, half of them invalid, fail no request, and each valid one is in force on both paths`, {
    timeout: TIMEOUT_MS,
  }, async (t) => {
    const kinds = [
      (id: string) => ({ path: `/pay/x?id=${id}` }),
      (id: string) => ({ path: '/web/x', headers: [['x-zone', id]] as [string, string][] }),
      (id: string) => ({ path: `/web/${id}/x` }),
    ]
    let turn = 0
    load = startLoadOf(
      (id) => call(gateway.port, { ...kinds[turn++ % kinds.length]?.(id), body: 'x', agent }),
      LINES,
      ['1', '2'],
    )
    const [coldMs, hotMs, slownesses]: [number[], number[], number[]] = [[], [], []]
    let rejected = (await gateway.status()).config.reloads.rejected
    for (let at = 1; at <= SAVES; at += 1) {
      const version = Math.ceil(at / 2)
      const savedMs = performance.now()
      if (at % 2 === 1) {
        save(invalid(version))
        await eventually(
          'the processor has refused it',
          async () => (await gateway.status()).config.reloads.rejected > rejected,
        )
        rejected = (await gateway.status()).config.reloads.rejected
        continue
      }
      save(valid(version))
      coldMs.push(await within(`version ${version} is in force`, version, 'cold', savedMs))
      await eventually(`version ${version} is hot`, async () => {
        const before = await decisionsOf()
        const reply = await call(gateway.port, requestOf(version, '1'))
        return reply.status === 200 && (await decisionsOf()) === before
      })
      hotMs.push(performance.now() - savedMs)
      slownesses.push(slowness(() => performance.now()))
    }
    assert.deepEqual([...load.outcomes.keys()], ['200'], JSON.stringify([...load.outcomes]))
    assert.ok((load.outcomes.get('200') ?? 0) > SAVES)
    const factor = Math.min(SLOW_MACHINE, slownesses.reduce((sum, each) => sum + each, 0) / slownesses.length)
    for (const [path, times] of Object.entries({ cold: coldMs, hot: hotMs })) {
      const told = `${path}: half within ${Math.round(percentile(times, 50))} ms, all within ${Math.round(Math.max(...times))} ms, on a machine that is ${factor.toFixed(1)} times slower`
      assert.ok(percentile(times, 50) < WITHIN_MS * factor, told)
      assert.ok(Math.max(...times) < WITHIN_MS * factor * SLOW_MACHINE, told)
      t.diagnostic(`${told}; ${load.outcomes.get('200')} requests`)
    }
  })
})
