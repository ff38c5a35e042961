import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseConfig } from '../config/load.ts'
import { rulesOf } from '../config/rules.ts'
import type { Answer } from '../dns/answer.ts'
import { servicesOf, type Zone } from '../routing/rules.ts'
import { SaidNow } from './said-now.ts'
import { learnZones } from './zone-learning.ts'

const config = parseConfig('dns: { search: game.test }', '')
const rules = rulesOf(config)
const [service] = rules.flatMap(servicesOf)
const IDS = Array.from({ length: 100 }, (_, id) => `${id}`)
const positive = (name: string): Answer => ({
  kind: 'positive',
  name,
  addresses: ['10.0.0.1'],
  denied: [],
  ttlSeconds: 30,
  stale: false,
})

/** A learning whose control plane throws at the zones of `broken`. */
function learning(broken: readonly string[]) {
  const published: string[] = []
  const bugs: unknown[] = []
  const zones = learnZones({
    config,
    rules,
    search: () => 'game.test',
    said: new SaidNow(config, rules, { entries: () => [] }).now,
    dns: {
      keep: (name: string) => ({
        name,
        current: () => positive(name),
        expiresAtMs: () => 1e12,
        release: () => {},
      }),
    },
    control: {
      active: true,
      withdraw: () => {},
      publish: ({ id }: { id: string }) => {
        if (broken.includes(id)) throw new Error(id)
        published.push(id)
      },
    },
    activity: { changed: () => {} },
    recorder: { zone: () => {} },
    log: { debug: () => {} },
    bugs: { at: () => (error: Error) => bugs.push(error.message) },
  } as never)
  return { zones, published, bugs }
}

test('an exception at one zone does not keep the others from being taken over', async (context) => {
  const before = learning([])
  for (const id of IDS)
    for (const _ of [1, 2]) before.zones.used({ service, id } as unknown as Zone, positive(`zone${id}`))
  const broken = ['3', '60']
  const next = learning(broken)
  context.after(() => next.zones.close())
  next.zones.takeOver(before.zones, true)
  for (let tries = 0; tries < 1000 && next.published.length < IDS.length - broken.length; tries++)
    await sleep(5)
  assert.deepEqual(next.bugs, broken)
  assert.deepEqual(
    next.published,
    IDS.filter((id) => !broken.includes(id)),
  )
})
