import { rulesOf } from '../config/rules.ts'
import type { Config } from '../config/schema.ts'
import { parsePinned, parseZones } from '../config/zones.ts'
import type { PinText } from '../history/event.ts'
import type { GatewayThen } from '../history/past.ts'
import type { SaidEntry } from '../routing/said.ts'
import type { ThenWorld } from '../status/explain-then.ts'
import { SaidNow } from './said-now.ts'

/**
 * The rules of a time that is over, and what was said of zones then.
 * @param current the configuration in force, in place of one that was too long to keep
 */
export function worldThen(then: GatewayThen, current: Config): ThenWorld | null {
  if (then.config === null || then.search === null) return null
  const config = then.config.isWhole ? (then.config.values as Config) : current
  try {
    const rules = rulesOf(config)
    const pins = { entries: () => then.pins.flatMap(entryOf) }
    const said = new SaidNow(config, rules, pins).now()
    return { rules, said, search: then.search, staleMs: config.dns.staleSeconds * 1000 }
  } catch {
    return null // of another version, whose keys were others
  }
}

function entryOf({ zone, addresses, who, because, until }: PinText): SaidEntry[] {
  const zones = parseZones(zone)
  if (typeof zones === 'string') return []
  const by = { who, because, untilMs: Date.parse(until) }
  const pinned = addresses.map(parsePinned).filter((address) => address !== null)
  return [{ key: zone, ...zones, says: { kind: 'pinned', addresses: pinned, by } }]
}
