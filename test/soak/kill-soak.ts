/**
 * Kills the parts of `npm start`: the processor every 2 s under load, then Envoy several times. A killed processor must
 * cost no request for a hot zone, and each part must be back within 2 s. Loopback only.
 */
import { startCheckout } from '../support/checkout.ts'
import { learnedIds } from '../support/fleet.ts'
import { call } from '../support/http.ts'
import { percentile, startLoad } from '../support/load.ts'
import { a, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { startReceiver } from '../support/receiver.ts'
import { pause, positiveNumber, readOptions, untilInterrupted } from './run.ts'

const HOST = '127.0.91.1'
const ZONES = 100
const CONNECTIONS = 64
const KILL_EVERY_MS = 2000
const ENVOY_KILLS = 5
const BACK_WITHIN_MS = 2000
const LOOK_MS = 20

const USAGE = `npm run soak:kills [-- OPTIONS]

Runs "npm start" in its own checkout with ${ZONES} hot zones and ${CONNECTIONS} connections. Kills (-9) the processor every
${KILL_EVERY_MS / 1000} s, then Envoy ${ENVOY_KILLS} times. Prints how many requests failed, and how long each part was away. Needs a quiet machine.

  --seconds 60   length of the part that kills the processor
`

const ids = Array.from({ length: ZONES }, (_, index) => `k${index + 1}`)

async function main(): Promise<number> {
  const values = readOptions(USAGE, { seconds: { type: 'string', default: '60' } })
  const seconds = positiveNumber('seconds', values['seconds'])
  const signal = untilInterrupted()
  const port = await freePort(HOST)
  const receiver = await startReceiver(HOST, port, (request, response) => {
    request.resume()
    response.end('ok')
  })
  const nameserver = await startNameserver((query) =>
    query.reply({ answers: query.type === 'A' ? [a(query.name, HOST, 5)] : [] }),
  )
  const checkout = await startCheckout({
    config: {
      rules: { port },
      dns: { nameservers: [nameserver.address], search: 'game.test' },
      addresses: { allow: ['127.0.91.0/24'] },
    },
  })
  try {
    const status = async (id: string): Promise<number> =>
      (await call(checkout.port, { headers: [['server', id]], body: 'x' }).catch(() => null))?.status ?? 0
    for (let round = 0; round < 2; round += 1) for (const id of ids) await status(id)
    await eventually('zones are learned', async () => (await learnedIds(checkout)).size === ZONES)

    let colds = 0
    const killed = (name: 'envoy' | 'processor'): void => {
      const pid = checkout.pid(name)
      if (pid !== undefined) process.kill(pid, 'SIGKILL')
    }
    /** Waits until a new zone is served, which needs both parts. */
    const awayMs = async (): Promise<number> => {
      const began = performance.now()
      while (!signal.aborted && (await status(`cold${colds++}`)) !== 200) await pause(LOOK_MS, signal)
      return performance.now() - began
    }
    const report = (what: string, times: readonly number[]): void => {
      const figures = [50, 100].map((percent) => (percentile(times, percent) / 1000).toFixed(2))
      console.log(
        `${what} killed ${times.length} times; away for ${figures.join(' s at the median, ')} s at most`,
      )
    }

    const processorMs: number[] = []
    const load = startLoad(checkout.port, CONNECTIONS, ids, 0)
    const end = performance.now() + seconds * 1000
    for (let next = performance.now(); next < end && !signal.aborted; next += KILL_EVERY_MS) {
      await pause(next - performance.now(), signal)
      killed('processor')
      processorMs.push(await awayMs())
    }
    await load.stop()
    const outcomes = Object.fromEntries(load.outcomes)
    report('processor', processorMs)
    console.log(`requests for hot zones by outcome: ${JSON.stringify(outcomes)}`)

    const envoyMs: number[] = []
    for (let kill = 0; kill < ENVOY_KILLS && !signal.aborted; kill += 1) {
      killed('envoy')
      envoyMs.push(await awayMs())
    }
    report('Envoy', envoyMs)
    const good =
      Object.keys(outcomes).join() === '200' && Math.max(...processorMs, ...envoyMs) <= BACK_WITHIN_MS
    console.log(good ? 'good' : `not good: expected only 200, and at most ${BACK_WITHIN_MS} ms`)
    return good ? 0 : 1
  } finally {
    await checkout.stop()
    await nameserver.stop()
    await receiver.close()
  }
}

process.exit(await main())
