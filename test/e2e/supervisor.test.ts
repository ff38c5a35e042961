import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RunningPart } from '../../src/launch/leftovers.ts'
import { type Checkout, type CheckoutOptions, startCheckout } from '../support/checkout.ts'
import { learnedIds } from '../support/fleet.ts'
import { call } from '../support/http.ts'
import { startLoad } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { ask, eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** `npm start` as a supervisor: a part that dies is started again, and no part outlives its parent. */
const HOST = '127.0.74.1'
const HOT = Array.from({ length: 20 }, (_, index) => `hot${index + 1}`)
const COLD = Array.from({ length: 30 }, (_, index) => `cold${index + 1}`)
/** How soon a part is back on an idle machine; docs/operations.md promises twice that. */
const BACK_WITHIN_MS = 20_000

let nameserver: ZoneNameserver
let receiver: Receiver
let config: Record<string, unknown>
let colds = 0

const statusOf = async (checkout: Checkout, id: string): Promise<number> =>
  (await call(checkout.port, { headers: [['server', id]], body: 'x' })).status
/** The outcome of a zone that nobody has asked for. */
const askCold = (checkout: Checkout): Promise<number> => statusOf(checkout, COLD[colds++ % COLD.length] ?? '')
const warm = async (checkout: Checkout): Promise<void> => {
  for (let round = 0; round < 2; round += 1)
    for (const id of HOT) assert.equal(await statusOf(checkout, id), 200)
  await eventually('zones are learned', async () => {
    const learned = await learnedIds(checkout)
    return HOT.every((id) => learned.has(id))
  })
}
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    // One that its new parent has not taken notice of yet has ended all the same.
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
const pidOf = (checkout: Checkout, name: RunningPart['name']): number =>
  checkout.pid(name) ?? assert.fail(`no ${name} runs`)
const kill = (checkout: Checkout, name: RunningPart['name']): number => {
  const pid = pidOf(checkout, name)
  process.kill(pid, 'SIGKILL')
  return pid
}
const backAfterMs = async (
  checkout: Checkout,
  name: RunningPart['name'],
  killed: number,
): Promise<number> => {
  const began = performance.now()
  await eventually(`another ${name} runs`, () => (checkout.pid(name) ?? killed) !== killed, BACK_WITHIN_MS)
  return performance.now() - began
}
const withCheckout = async (
  options: Omit<CheckoutOptions, 'config'>,
  use: (checkout: Checkout) => Promise<void>,
): Promise<void> => {
  const checkout = await startCheckout({ config, ...options })
  try {
    await use(checkout)
  } catch (error) {
    throw new Error(`${(error as Error).stack}\n${checkout.log().split('\n').slice(-40).join('\n')}`)
  } finally {
    await checkout.stop()
  }
}

suite('npm start as a supervisor', () => {
  before(async () => {
    const port = await freePort(HOST)
    receiver = await startReceiver(HOST, port, (request, response) => {
      request.resume()
      response.end('ok')
    })
    nameserver = await startZoneNameserver(
      Object.fromEntries([...HOT, ...COLD].map((id) => [`zone${id}-default.game.test`, [HOST]])),
    )
    config = {
      rules: { port },
      dns: { nameservers: [nameserver.address], search: 'game.test' },
      addresses: { allow: ['127.0.74.0/24'] },
    }
  })
  after(async () => {
    await nameserver?.close()
    await receiver?.close()
  })

  test('processor killed (-9) time and again: it is back each time, hot 0 fail, cold 502 until then', () =>
    withCheckout({}, async (checkout) => {
      await warm(checkout)
      const envoy = checkout.pid('envoy')
      const load = startLoad(checkout.port, 16, HOT, 5)
      const outcomes = new Set<number>()
      try {
        for (let round = 0; round < 4; round += 1) {
          const killed = kill(checkout, 'processor')
          outcomes.add(await askCold(checkout))
          await backAfterMs(checkout, 'processor', killed)
          await eventually('cold is 200', async () => (await statusOf(checkout, COLD[round] ?? '')) === 200)
        }
      } finally {
        await load.stop()
      }
      assert.deepEqual([...outcomes], [502])
      assert.deepEqual([...load.outcomes.keys()], ['200'])
      assert.equal(checkout.pid('envoy'), envoy)
      assert.match(checkout.log(), /^zonegate: processor ended by itself: ended by SIGKILL; restarting it$/m)
      assert.match(checkout.log(), /^zonegate: processor is ready again$/m)
    }))

  test('Envoy killed (-9): another one is back, hot again, and the processor stays', () =>
    withCheckout({}, async (checkout) => {
      await warm(checkout)
      const processor = checkout.pid('processor')
      await backAfterMs(checkout, 'envoy', kill(checkout, 'envoy'))
      await eventually('200', async () => (await statusOf(checkout, 'hot1').catch(() => 0)) === 200)
      await eventually('zones are hot', async () => (await learnedIds(checkout)).size === HOT.length)
      assert.equal(checkout.pid('processor'), processor)
    }))

  test('zonegate.yaml and envoy.yaml are broken when their parts die: hot 0 fail; Envoy is back with the one before, the processor once it is mended', () =>
    withCheckout({}, async (checkout) => {
      await warm(checkout)
      const [yaml, envoyYaml] = ['zonegate.yaml', 'envoy/envoy.yaml'].map((name) =>
        join(checkout.folder, name),
      ) as [string, string]
      const good = readFileSync(yaml, 'utf8')
      writeFileSync(yaml, `${good}\nnonsense: 1\n`)
      kill(checkout, 'processor')
      await eventually('the fault is said', () =>
        /nonsense: no such key.*once you have corrected that/.test(checkout.log()),
      )
      assert.equal(await statusOf(checkout, 'hot1'), 200)
      writeFileSync(yaml, good)
      await eventually('cold is 200', async () => (await askCold(checkout)) === 200)

      writeFileSync(
        envoyYaml,
        readFileSync(envoyYaml, 'utf8').replace('- name: processor\n', '- nome: processor\n'),
      )
      await backAfterMs(checkout, 'envoy', kill(checkout, 'envoy'))
      await eventually('200', async () => (await statusOf(checkout, 'hot1').catch(() => 0)) === 200)
      assert.match(checkout.log(), /it goes on with the previous one/)
    }))

  test('listener.yaml as it is saved is refused by Envoy when Envoy dies: another one is back with the listener before', () =>
    withCheckout({}, async (checkout) => {
      await warm(checkout)
      const listener = join(checkout.folder, 'envoy/listener.yaml')
      const written = join(checkout.folder, 'run/listener.yaml')
      const good = readFileSync(written, 'utf8')
      writeFileSync(
        listener,
        readFileSync(listener, 'utf8').replace('stat_prefix: callback', 'stat_prefix: ""'),
      )
      await eventually('it is written', () => readFileSync(written, 'utf8') !== good)
      kill(checkout, 'envoy')
      await eventually('200', async () => (await statusOf(checkout, 'hot1').catch(() => 0)) === 200)
      assert.match(checkout.log(), /the saved envoy\/listener\.yaml: .* the previous one/)
    }))

  test('listen has changed when the processor dies: it is back where Envoy looks for it', () =>
    withCheckout({}, async (checkout) => {
      const yaml = join(checkout.folder, 'zonegate.yaml')
      const good = readFileSync(yaml, 'utf8')
      writeFileSync(
        yaml,
        good.replace(/http: .*/, `http: 127.0.0.1:${await freePort()}\n  grpc: unix:run/other.sock`),
      )
      await backAfterMs(checkout, 'processor', kill(checkout, 'processor'))
      await eventually('cold is 200', async () => (await askCold(checkout)) === 200)
      assert.equal((await ask(checkout.httpPort, '/readyz')).status, 200)
      assert.match(checkout.log(), /listen in zonegate.yaml has changed/)
    }))

  for (const [title, npm, signal] of [
    ['launcher killed (-9)', false, 'SIGKILL'],
    ['npm told to end (SIGTERM)', true, 'SIGTERM'],
    ['npm killed (-9)', true, 'SIGKILL'],
  ] as const)
    test(`${title}: Envoy and the processor end too`, () =>
      withCheckout({ npm }, async (checkout) => {
        const parts = [pidOf(checkout, 'envoy'), pidOf(checkout, 'processor')]
        checkout.child.kill(signal)
        await eventually('both have ended', () => !parts.some(isAlive))
      }))

  test('what is left of a start without its launcher is told by the next one, with pids and the way out', () =>
    withCheckout({}, async (checkout) => {
      const launcher = checkout.child.pid
      const parts = [pidOf(checkout, 'processor'), pidOf(checkout, 'envoy')].sort((a, b) => a - b)
      // Without their watches no part ends with its parent.
      const watches = execFileSync('pgrep', ['-P', String(launcher), '-f', 'zonegate-watch'], {
        encoding: 'utf8',
      })
      for (const pid of watches.split('\n').filter(Boolean)) process.kill(Number(pid), 'SIGKILL')
      checkout.child.kill('SIGKILL')
      await eventually('the launcher has ended', () => checkout.child.signalCode !== null)
      await assert.rejects(checkout.start(), ({ message }: Error) => {
        for (const pid of parts) assert.match(message, new RegExp(`\\(pid ${pid}\\)`))
        assert.match(message, /is in use.*without their launcher; to stop them: kill \d+ \d+/)
        return true
      })
      for (const pid of parts) process.kill(pid, 'SIGTERM')
      await eventually('both have ended', () => !parts.some(isAlive))
      await checkout.start()
    }))

  test('a second start in a checkout that runs names the launcher to end', () =>
    withCheckout({}, async (checkout) => {
      const { pid } = checkout.child
      await assert.rejects(
        checkout.start(),
        new RegExp(`already runs in this checkout: .*to stop it: kill ${pid}`),
      )
      process.kill(pid ?? 0, 'SIGTERM')
      await sleep(0)
      await eventually('it has ended', () => !isAlive(pid ?? 0))
    }))
})
