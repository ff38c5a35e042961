// Writes the part of the chart's values.schema.json that is zonegate.yaml's schema: node scripts/with-node.mjs scripts/chart-schema.ts
import { readFileSync, writeFileSync } from 'node:fs'
import { jsonSchemaText, withShortArrays } from '../src/config/json-schema.ts'

export const CHART_SCHEMA_FILE = new URL('../deploy/helm/zonegate/values.schema.json', import.meta.url)

/** Keys below `listen` that the pod's environment sets. With a token in both places the processor does not start. */
const SET_BY_THE_POD = ['http', 'httpToken', 'httpTokenFile']

/** The file's new text. It keeps its own part, and takes `config` and the definitions of that from zonegate.schema.json. */
export function chartSchemaText(): string {
  const chart = JSON.parse(readFileSync(CHART_SCHEMA_FILE, 'utf8'))
  const { $schema: _, $defs, ...config } = JSON.parse(jsonSchemaText(), withoutLookaround)
  for (const key of SET_BY_THE_POD) delete config.properties.listen.properties[key]
  chart.properties.config = config
  Object.assign(chart.$defs, $defs)
  return `${withShortArrays(JSON.stringify(chart, null, 2))}\n`
}

/** Helm's regular expressions (RE2) support no lookaround. Helm would refuse a schema with one. */
function withoutLookaround(this: object, key: string, value: unknown): unknown {
  return key === 'pattern' && typeof value === 'string' && /\(\?<?[=!]/.test(value) ? undefined : value
}

if (import.meta.main) writeFileSync(CHART_SCHEMA_FILE, chartSchemaText())
