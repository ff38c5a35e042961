import { type FormFields, formFields } from '../routing/fields.ts'
import { cookies, type IdSource, queryOf, readsType } from '../routing/id-sources.ts'
import { hostOf, pathOf } from '../routing/request-head.ts'
import type { RequestHead } from '../routing/rules.ts'

/** Why a source has no id, in a few words. */
export function whyAbsent(head: RequestHead, source: IdSource): string {
  switch (source.kind) {
    case 'header': {
      const [value] = head.headers[source.name] ?? []
      if (value === undefined) return 'not there'
      return value === '' ? 'empty' : `${JSON.stringify(value)}, which stands for none`
    }
    case 'query':
      return whyNoField(formFields(queryOf(head.path)), source.name)
    case 'cookie':
      return whyNoField(cookies(head.headers['cookie'] ?? []), source.name)
    case 'path':
      return `${pathOf(head.path)} does not fit`
    case 'host':
      return head.authority === '' ? 'no host' : `${hostOf(head.authority)} does not fit`
    case 'form':
    case 'json': {
      const [type] = head.headers['content-type'] ?? []
      if (type === undefined) return 'no content-type'
      if (!readsType(source.kind, type)) return `content-type is ${type}`
      if (head.body === undefined || head.body.length === 0) return 'no body'
      if (source.kind === 'json') return 'not there, or empty'
      return whyNoField(formFields(head.body.toString('latin1')), source.name)
    }
  }
}

function whyNoField(fields: FormFields, wanted: string): string {
  return fields.some(({ name }) => name === wanted) ? 'empty' : 'not there'
}
