import { isBodySource, type SourceOf } from '../routing/id-sources.ts'
import type { Rule, Rules } from '../routing/rules.ts'

/**
 * Envoy finds ids in bodies with three filters. The first reads the whole body. The second, Envoy's JSON filter, finds the values at
 * the rules' pointers. The third is a Lua script: it completes the key of the request if every receiver would read the same id.
 * The filters are on only for requests whose rule looks into the body.
 */

const SCRIPT = 'envoy/id_in_body.lua'
/** The namespace of metadata where the JSON filter writes a value for each rule. The script reads it. */
const NAMESPACE = 'zonegate.id'
const TYPE = 'type.googleapis.com/envoy.extensions.filters.http'
/** JSON content types, with or without parameters. */
const JSON_TYPES = 'application/(?:[A-Za-z0-9.+-]+[+])?json(?:[ ;].*)?'
/** JSON can write such a name in one way only, apart from escapes, so the script can search the text for it. */
const PLAIN_NAME = /^[A-Za-z0-9_.-]+$/

/** Settings of filters for one route, in proto3 JSON. */
export type FilterSettings = Readonly<Record<string, object>>

/** The filters, which come before all others. Empty if no rule looks into a body. */
export function bodyFilters(rules: Rules): object[] {
  const looking = rules.filter(({ sources }) => sources.some(isBodySource))
  if (looking.length === 0) return []
  const pointers = looking.flatMap((rule) => {
    const source = jsonOf(rule)
    return source === undefined ? [] : [{ rule, steps: source.steps }]
  })
  return [
    {
      name: 'id_buffer',
      disabled: true,
      typed_config: {
        '@type': `${TYPE}.buffer.v3.Buffer`,
        max_request_bytes: Math.max(...looking.map(({ bodyMaxBytes }) => bodyMaxBytes)),
      },
    },
    ...(pointers.length === 0 ? [] : [jsonFilter(pointers)]),
    {
      name: 'id_in_body',
      disabled: true,
      typed_config: { '@type': `${TYPE}.lua.v3.Lua`, source_codes: { id: { filename: SCRIPT } } },
    },
  ]
}

function jsonFilter(pointers: readonly { readonly rule: Rule; readonly steps: readonly string[] }[]): object {
  return {
    name: 'id_json',
    disabled: true,
    typed_config: {
      '@type': `${TYPE}.json_to_metadata.v3.JsonToMetadata`,
      request_rules: {
        allow_content_types_regex: { regex: JSON_TYPES },
        rules: pointers.map(({ rule, steps }) => ({
          selectors: steps.map((key) => ({ key })),
          on_present: { metadata_namespace: NAMESPACE, key: rule.name },
        })),
      },
    },
  }
}

/** Settings of the route that asks the processor, for a rule that looks into the body: Envoy sends the body, too. */
export function askingSettings(rule: Rule, hasFallback = false): FilterSettings {
  const json = jsonOf(rule)
  const form = rule.sources.find((source) => source.kind === 'form')
  const on = { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', config: {} }
  return {
    id_buffer: {
      '@type': `${TYPE}.buffer.v3.BufferPerRoute`,
      buffer: { max_request_bytes: rule.bodyMaxBytes },
    },
    ...(json && { id_json: on }),
    id_in_body: {
      '@type': `${TYPE}.lua.v3.LuaPerRoute`,
      name: 'id',
      filter_context: {
        rule: rule.name,
        ...(json && { json: json.steps.join('\n') }),
        ...(form && { form: form.name }),
      },
    },
    ext_proc: {
      '@type': `${TYPE}.ext_proc.v3.ExtProcPerRoute`,
      overrides: {
        processing_mode: {
          request_header_mode: 'SEND',
          response_header_mode: 'SKIP',
          request_body_mode: 'BUFFERED',
        },
        ...(hasFallback && { failure_mode_allow: true }),
      },
    },
  }
}

/**
 * Settings of a learned zone's routes. The first route of a request, which asks the processor, turned the filters on. So the routes of
 * a zone must turn ext_proc off.
 */
export const HOT_SETTINGS: FilterSettings = {
  ext_proc: { '@type': `${TYPE}.ext_proc.v3.ExtProcPerRoute`, disabled: true },
}

/** The rule's first pointer of plain names. The script can check that a body has each of them once. */
function jsonOf({ sources }: Rule): SourceOf<'json'> | undefined {
  return sources
    .filter((source) => source.kind === 'json')
    .find(({ steps }) => steps.every((step) => PLAIN_NAME.test(step)))
}
