import assert from 'node:assert/strict'
import type { Socket as UdpSocket } from 'node:dgram'
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { parse, stringify } from 'yaml'
import { startNameserver } from '../../demo/nameserver.ts'
import { parseConfig } from '../../src/config/load.ts'
import { rulesOf } from '../../src/config/rules.ts'
import { readEnvoyFiles, writeRendered } from '../../src/envoy-files/folder.ts'
import { generate } from '../../src/envoy-files/generated.ts'
import { render } from '../../src/envoy-files/render.ts'
import { ensureEnvoy } from '../../src/launch/envoy-binary.ts'
import { type Part, startEnvoy, untilReady } from '../../src/launch/instance.ts'
import type { EnvoyStatus } from '../../src/xds/envoy-stream.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'

/** One processor, five Envoys: each has a stream, versions and load of its own, and what one of them does is its own affair. */
const HOST = '127.0.75.1'
const ENVOYS = 5
/** Has a virtual host of its own for this id, and so refuses the processor's. */
const REFUSING = 5
const REFUSED_ID = '7'
/** A few of Envoys' load reports, as a busy machine may send one late: a zone in use is known to be by then. */
const IDLE_SECONDS = 20
const WITHIN_MS = 60_000

interface Envoy {
  readonly name: string
  readonly port: number
  readonly adminPort: number
  readonly part: Part
}

let gateway: TestGateway
let nameserver: UdpSocket
let receiver: Receiver
let log: number
const envoys: Envoy[] = []
const records: Record<string, readonly string[]> = {}

suite('five Envoys of one processor', () => {
  before(async () => {
    const zonePort = await freePort(HOST)
    receiver = await startReceiver(HOST, zonePort)
    for (let id = 1; id <= 400; id += 1) records[`zone${id}-default.game.test`] = [HOST]
    nameserver = await startNameserver('127.0.0.1', await freePort(), records)
    gateway = await startGateway({
      config: {
        rules: { port: zonePort },
        dns: { nameservers: [`127.0.0.1:${nameserver.address().port}`], search: 'game.test' },
        learned: { idleSeconds: 600 }, // until the last test
        addresses: { allow: [`${HOST}/32`] },
      },
      edit: { 'envoy.yaml': (text) => text.replace('id: zonegate-envoy', 'id: envoy-1') },
    })
    const { port, adminPort, envoy: part } = gateway
    envoys.push({ name: 'envoy-1', port, adminPort, part })
    log = openSync(join(gateway.folder, 'others.log'), 'a')
    for (let number = 2; number <= ENVOYS; number += 1) envoys.push(await startAnother(number))
  })
  after(async () => {
    await Promise.all(envoys.slice(1).map(({ part }) => part.stop('SIGKILL')))
    await gateway?.stop()
    if (log !== undefined) closeSync(log)
    await receiver?.close()
    await new Promise<void>((done) => nameserver?.close(done))
  })

  test('one that starts while no zone is learned is told so, and does not wait for any', () => {
    assert.doesNotMatch(readFileSync(join(gateway.folder, 'others.log'), 'utf8'), /initial fetch timed out/)
  })

  test('a zone that is asked for on one of them is routed by all', async () => {
    await learn(['1', '2', '3'], envoy(1))
    for (const each of envoys) await until(`${each.name} has them`, () => hasZones(each, ['1', '2', '3']))
    // An Envoy has them a moment before it says so.
    await until('all have acknowledged', async () =>
      (await statusOf()).every(({ resources }) => resources.virtualHost.held === 3),
    )
    const statuses = await statusOf()
    assert.deepEqual(statuses.map(({ envoy }) => envoy).sort(), envoys.map(({ name }) => name).sort())
  })

  test('one that refuses a zone keeps what it had and asks about that one; the others have it', async () => {
    await learn([REFUSED_ID], envoy(1))
    for (const each of envoys.slice(0, REFUSING - 1))
      await until(`${each.name} has it`, () => hasZones(each, [REFUSED_ID]))
    await until('it is refused', async () => (await statusOf(REFUSING)).resources.virtualHost.rejected === 1)
    assert.match((await statusOf(REFUSING)).lastRejection ?? '', /domain/i)
    assert.equal((await post(envoy(REFUSING), REFUSED_ID)).status, 200)
    assert.ok(await hasZones(envoy(REFUSING), ['1', '2', '3']))

    await learn(['8'], envoy(2))
    await until('a later zone is taken', () => hasZones(envoy(REFUSING), ['8']))
    // It is tried again now and then, and is not counted while Envoy has it to judge.
    const isRefused = async (): Promise<boolean> =>
      (await statusOf(REFUSING)).resources.virtualHost.rejected === 1
    await until('the one is refused still', isRefused)
  })

  test('one that stands still holds up nobody, and gets the latest state when it goes on', async () => {
    const still = envoy(4)
    still.part.process.kill('SIGSTOP')
    try {
      const ids = Array.from({ length: 200 }, (_, index) => String(index + 101))
      await learn(ids, envoy(1))
      await until('the others have them', () => hasZones(envoy(2), ids))
      for (const id of ids) delete records[`zone${id}-default.game.test`]
      await Promise.all(ids.map((id) => flush(`zone${id}-default.game.test`)))
      await until('they are gone from the others', async () => !(await hasZones(envoy(2), ['101'])))
      await learn(['9'], envoy(1))
    } finally {
      still.part.process.kill('SIGCONT')
    }
    await until('it has caught up', () => hasZones(still, ['9']))
    await until('without what came and went', async () => {
      const zones = await zonesOf(still)
      return !zones.some((id) => Number(id) > 100)
    })
    assert.equal((await statusOf(4)).resources.virtualHost.nacks, 0)
  })

  test('load counts wherever it is: a zone in use on one Envoy stays on all, an unused one leaves all', async () => {
    await gateway.configure('learned', { idleSeconds: IDLE_SECONDS })
    const deadline = performance.now() + WITHIN_MS
    const unused = async (): Promise<boolean> => {
      const all = await Promise.all(envoys.map(zonesOf))
      return all.every((zones) => !zones.includes('2'))
    }
    while (!(await unused())) {
      assert.ok(performance.now() < deadline, 'zone 2 is still there')
      assert.equal((await post(envoy(3), '1')).status, 200)
      await sleep(200)
    }
    for (const each of envoys) assert.ok(await hasZones(each, ['1']), each.name)
  })
})

const envoy = (number: number): Envoy => envoys[number - 1] as Envoy

async function startAnother(number: number): Promise<Envoy> {
  const { folder } = gateway
  const name = `envoy-${number}`
  const own = join(folder, name)
  const files = readEnvoyFiles(join(folder, 'envoy'))
  const [port, adminPort] = [await freePort(), await freePort()]
  const addresses = {
    listen: { host: '127.0.0.1', port },
    admin: { host: '127.0.0.1', port: adminPort },
    processor: 'unix:run/processor.sock',
  }
  const { bootstrap, listener } = render(files, generate(rulesOf(parseConfig('', ''))), addresses)
  if (number === REFUSING) {
    const routes = parse(readFileSync(join(folder, 'run/routes.yaml'), 'utf8'))
    const [configuration] = routes.resources
    const [cold] = configuration.virtual_hosts
    configuration.virtual_hosts.push({ ...cold, name: 'own', domains: [`POST/${REFUSED_ID}`] })
    writeFileSync(join(folder, 'run/routes-own.yaml'), stringify(routes))
  }
  writeRendered(own, {
    bootstrap: bootstrap
      .replace(/id: envoy-\d/, `id: ${name}`)
      .replaceAll(/run\/\S+-admin\.sock/g, `run/${name}-admin.sock`)
      .replace('path: run/listener.yaml', `path: ${name}/listener.yaml`),
    listener: number === REFUSING ? listener.replace('run/routes.yaml', 'run/routes-own.yaml') : listener,
  })
  const part = startEnvoy({
    binary: await ensureEnvoy(),
    cwd: folder,
    bootstrap: `${name}/envoy.yaml`,
    output: log,
    concurrency: 1,
  })
  await untilReady(part, '127.0.0.1', adminPort, '/ready')
  return { name, port, adminPort, part }
}

function post({ port }: Envoy, id: string): ReturnType<typeof call> {
  return call(port, { headers: [['server', id]], body: 'x' })
}

async function learn(ids: readonly string[], from: Envoy): Promise<void> {
  for (const _twice of [1, 2]) {
    const replies = await Promise.all(ids.map((id) => post(from, id)))
    for (const { status } of replies) assert.equal(status, 200)
  }
}

async function zonesOf({ adminPort }: Envoy): Promise<string[]> {
  const url = `http://127.0.0.1:${adminPort}/config_dump?resource=dynamic_route_configs`
  const text = await (await fetch(url)).text()
  return [...text.matchAll(/"name": "zonegate\/(\w+)"/g)].map(([, id]) => id ?? '')
}

async function hasZones(from: Envoy, ids: readonly string[]): Promise<boolean> {
  const zones = new Set(await zonesOf(from))
  return ids.every((id) => zones.has(id))
}

async function statusOf(): Promise<readonly EnvoyStatus[]>
async function statusOf(number: number): Promise<EnvoyStatus>
async function statusOf(number?: number): Promise<EnvoyStatus | readonly EnvoyStatus[]> {
  const { envoys: all } = await gateway.status()
  return number === undefined ? all : (all.find((one) => one.envoy === `envoy-${number}`) as EnvoyStatus)
}

async function flush(name: string): Promise<void> {
  await fetch(`http://127.0.0.1:${gateway.httpPort}/api/flush?name=${name}`, { method: 'POST' })
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WITHIN_MS
  while (!(await holds())) {
    if (performance.now() > deadline) assert.fail(`not within ${WITHIN_MS} ms: ${what}`)
    await sleep(50)
  }
}
