import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { loadConfig } from '../../src/config/load.ts'
import { rulesOf } from '../../src/config/rules.ts'
import { nameOf, servicesOf } from '../../src/routing/rules.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

test('in containers each zone of the demo has a name for each service of its rules', () => {
  const { config } = loadConfig(`${ROOT}/demo/zonegate.yaml`)
  const { services } = parse(readFileSync(`${ROOT}/docker-compose.yml`, 'utf8'), { merge: true })
  for (const id of ['1', '2', '3']) {
    const names = rulesOf(config).flatMap((rule) =>
      servicesOf(rule).map((service) => nameOf(rule.host, id, service, config.dns.search ?? '')),
    )
    assert.deepEqual([...services[`zone${id}`].networks.default.aliases].sort(), names.sort())
  }
})
