import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import pino from 'pino'
import { parseConfig } from '../config/load.ts'
import { type Running, run, startLasting } from './running.ts'

test('a replaced DNS client and all that used it can be collected', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const config = (timeoutMs: number) =>
    parseConfig(
      `dns: { search: game.test, nameservers: ["127.0.0.1:9"], timeoutMs: ${timeoutMs}, budgetMs: 10 }`,
      '',
    )
  let running: Running
  const lasting = startLasting(
    pino({ level: 'silent' }),
    { bytes: 1_048_576, path: null },
    {},
    { processor: 'unix:' },
    () => running,
  )
  running = run(config(1), lasting, null)
  const replaced: WeakRef<object>[] = []
  for (let timeoutMs = 2; timeoutMs < 6; timeoutMs += 1) {
    replaced.push(new WeakRef(running.dns))
    running = run(config(timeoutMs), lasting, running)
  }
  // A replaced client may still answer for a moment, and Node decides when it closes sockets and collects memory.
  const deadlineMs = performance.now() + 60_000
  const left = (): number => replaced.filter((dns) => dns.deref() !== undefined).length
  while (left() > 0 && performance.now() < deadlineMs) {
    await sleep(50)
    collect()
  }
  assert.equal(left(), 0)
  running.zones.close()
  running.dns.close()
  lasting.control.close()
})
