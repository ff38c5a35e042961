import type { Rule } from '../routing/rules.ts'

/** Equal for rules that are. JSON alone makes nothing of sets, maps and expressions. */
export function ruleText(rule: Rule): string {
  return JSON.stringify(rule, (_, value: unknown) =>
    value instanceof RegExp
      ? value.source
      : value instanceof Set || value instanceof Map
        ? [...value]
        : value,
  )
}
