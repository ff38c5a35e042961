import assert from 'node:assert/strict'
import { stringify } from 'yaml'
import { parseConfig } from '../../src/config/load.ts'
import { rulesOf } from '../../src/config/rules.ts'
import type { World } from '../../src/diff/outcome.ts'
import { SaidNow } from '../../src/processor/said-now.ts'

/** Everything that decisions depend on, from a configuration, which is checked first. @param raw as in zonegate.yaml; `dns.search` is `game.test` unless it says */
export function worldOf(raw: Readonly<Record<string, unknown>>): World {
  const config = parseConfig(stringify({ dns: { search: 'game.test' }, ...raw }), 'z.yaml')
  const rules = rulesOf(config)
  const said = new SaidNow(config, rules, { entries: () => [] }).now()
  const saidBy = JSON.stringify([config.zones, config.addresses])
  return {
    rules,
    search: config.dns.search ?? '',
    said,
    saidBy,
    answerOf: () => assert.fail('DNS is not asked'),
  }
}
