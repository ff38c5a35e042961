import { fallbackHindrances } from '../envoy-files/fallback.ts'
import type { Fault } from './faults.ts'
import { rulesOf } from './rules.ts'
import type { Config } from './schema.ts'

/** Finds settings of a sound zonegate.yaml that do less than the operator probably means. @param file its name */
export function notesOfConfig(config: Config, file: string): Fault[] {
  const { dns, fallback, learned } = config
  const notes: Fault[] = []
  if (learned.enabled && learned.zonesMax > dns.cacheEntriesMax)
    notes.push({
      file,
      key: 'learned.zonesMax',
      message: `expected dns.cacheEntriesMax (${dns.cacheEntriesMax}) or less, got ${learned.zonesMax}: the cache needs an entry for each learned zone`,
    })
  if (!fallback.enabled) return notes
  const rules = rulesOf(config)
  for (const rule of rules) {
    const name = rules.length === 1 ? '' : `rule "${rule.name}" has none: `
    for (const hindrance of fallbackHindrances(rule))
      notes.push({
        file,
        key: 'fallback.enabled',
        message: `${name}${hindrance}; its requests get 502, as without a fallback`,
      })
  }
  return notes
}
