import { isBodySource, type SourceOf } from '../routing/id-sources.ts'
import type { Rule, Rules } from '../routing/rules.ts'

/**
 * Ids in bodies, without the processor: a filter reads the body whole, Envoy's own JSON filter finds what the rules' pointers lead
 * to, and a script decides whether that is said plainly enough, and completes the key of the request. All three are on only for
 * requests whose rule looks into the body.
 */

const SCRIPT = 'envoy/id_in_body.lua'
/** Namespace of the metadata that the JSON filter writes: a value for each rule. The script reads it. */
const NAMESPACE = 'zonegate.id'
const TYPE = 'type.googleapis.com/envoy.extensions.filters.http'
/** No type of body but JSON; with parameters behind it, or none. */
const JSON_TYPES = 'application/(?:[A-Za-z0-9.+-]+[+])?json(?:[ ;].*)?'
/** A name that is written in one way only, so that the script finds it in the text. */
const PLAIN_NAME = /^[A-Za-z0-9_.-]+$/

/** Settings of filters for one route, in proto3 JSON. */
export type FilterSettings = Readonly<Record<string, object>>

/** The filters, in front of all others; none where no rule looks into a body. */
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

/** Settings of the route that asks the processor, for requests of a rule that looks into the body: it is sent that, too. */
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

/** Settings of a learned zone's routes: filters are as the first route of a request turns them on, and that one asks. */
export const HOT_SETTINGS: FilterSettings = {
  ext_proc: { '@type': `${TYPE}.ext_proc.v3.ExtProcPerRoute`, disabled: true },
}

/** The pointer of a rule, where the script can tell that its names stand in a body once. */
function jsonOf({ sources }: Rule): SourceOf<'json'> | undefined {
  return sources
    .filter((source) => source.kind === 'json')
    .find(({ steps }) => steps.every((step) => PLAIN_NAME.test(step)))
}
