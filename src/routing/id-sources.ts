import { isUtf8 } from 'node:buffer'
import { type IdReading, jsonMember } from './body-ids.ts'
import { type FormFields, formFields, isAlike, percentDecoded } from './fields.ts'
import { extract, type Template, templateOf } from './patterns.ts'
import { hostOf, pathOf, type RequestHead } from './request-head.ts'

export type { IdReading } from './body-ids.ts'

/** A place where a request has its id. Header names are in lower case. */
export type IdSource =
  | Named<'header'>
  | Named<'query'>
  | Named<'cookie'>
  | Named<'form'>
  | Patterned<'path'>
  | Patterned<'host'>
  | JsonSource

interface Named<Kind> {
  readonly kind: Kind
  readonly name: string
}

interface Patterned<Kind> {
  readonly kind: Kind
  /** The pattern as zonegate.yaml writes it. */
  readonly text: string
  readonly template: Template
}

interface JsonSource {
  readonly kind: 'json'
  /** The JSON pointer (RFC 6901) as zonegate.yaml writes it. */
  readonly text: string
  readonly steps: readonly string[]
}

/** The keys of `id` in zonegate.yaml. */
export type SourceKind = IdSource['kind']
export type SourceOf<Kind extends SourceKind> = Extract<IdSource, { readonly kind: Kind }>
export type BodySource = SourceOf<'json' | 'form'>

const ABSENT: IdReading = { kind: 'absent' }
/** Envoy writes this for a missing header. */
const NOTHING = '-'
/** Path segments that a receiver may resolve, so that it reads another id. */
const DOT_SEGMENT = /(?:^|[/\\])(?:\.|%2e){1,2}(?:[/\\;]|$)|\\|%(?:25)*(?:5c|2f)|%25(?:25)*2e/i
/** Parts of a path that a receiver may resolve, decode or drop. */
const ODD_PATH = /[%;\\]|\/[/.]/
/** Characters in a host, or a final dot, that make some receivers read another host. */
const ODD_HOST = /[^a-z0-9._[\]:-]|\.$/

/** True for kinds whose id is in the body of a request. */
export const IS_IN_BODY: Readonly<Record<SourceKind, boolean>> = {
  header: false,
  query: false,
  path: false,
  host: false,
  cookie: false,
  json: true,
  form: true,
}

export function isBodySource(source: IdSource): source is BodySource {
  return IS_IN_BODY[source.kind]
}

/** Names of the request headers that the source reads. */
export function headersRead(source: IdSource): readonly string[] {
  switch (source.kind) {
    case 'header':
      return [source.name]
    case 'cookie':
      return ['cookie']
    case 'json':
    case 'form':
      return ['content-type', 'content-encoding']
    case 'query':
    case 'path':
    case 'host':
      return []
  }
}

/** A source as zonegate.yaml writes it: `header server`, `path /cb/{id}/*`. */
export function sourceText(source: IdSource): string {
  return `${source.kind} ${'name' in source ? source.name : source.text}`
}

/** Reads an id from one source, without checking it against `idPattern`. */
export function readId(head: RequestHead, source: IdSource): IdReading {
  switch (source.kind) {
    case 'header':
      return ofValues(head.headers[source.name] ?? [])
    case 'query':
      return ofForm(queryOf(head.path), source.name)
    case 'cookie':
      return ofCookies(head.headers['cookie'] ?? [], source.name)
    case 'path':
      return ofPath(pathOf(head.path), source.template)
    case 'host':
      return ofHost(hostOf(head.authority), source.template)
    case 'form':
    case 'json':
      return ofBody(head, source)
  }
}

function ofText(text: string | undefined): IdReading {
  return text === undefined || text === '' ? ABSENT : { kind: 'id', id: text }
}

function ofValues(values: readonly string[]): IdReading {
  const [value = '', ...more] = values
  if (more.length > 0 || value.includes(',')) return { kind: 'several', text: values.join(', ') }
  return value === NOTHING ? ABSENT : ofText(value)
}

/** Some receivers also split fields at a semicolon (HTML 4.01, section B.2.2). */
function ofForm(text: string, name: string): IdReading {
  return ofFields(formFields(text), formFields(text, /[&;]/), name)
}

/** Some receivers also split cookies at a comma (RFC 2965 section 3.3.4), and some decode their names. */
function ofCookies(values: readonly string[], name: string): IdReading {
  return ofFields(cookies(values), formFields(values.join(';'), /[;,]/), name)
}

/**
 * The value of a field, unless some receiver could take another field for it.
 * @param lenient the fields as the most lenient receiver splits them
 */
function ofFields(fields: FormFields, lenient: FormFields, name: string): IdReading {
  const alike = lenient.filter((field) => isAlike(field.name, name))
  if (alike.length > 1) return { kind: 'several', text: alike.map(({ value }) => value).join(', ') }
  const field = fields.find((one) => one.name === name)
  if (field !== undefined) return ofText(field.value)
  const [other] = alike
  return other === undefined ? ABSENT : { kind: 'unclear', text: `${other.name}=${other.value}` }
}

function ofPath(path: string, template: Template): IdReading {
  const id = extract(template, path, '/')
  const lenient = extract(plainTemplate(template), plainPath(path), '/')
  if (id?.toLowerCase() !== lenient || (id !== undefined && DOT_SEGMENT.test(path)))
    return { kind: 'unclear', text: path }
  return ofText(id)
}

function plainTemplate({ before, after, isOpen }: Template): Template {
  return templateOf(`${plainPath(`${before}{id}${after}`)}${isOpen ? '*' : ''}`)
}

/** A path as the most lenient receiver reads it: in lower case, decoded, without parameters, and with dot and empty segments resolved. */
function plainPath(path: string): string {
  const lower = path.toLowerCase()
  if (!ODD_PATH.test(path)) return lower
  const segments: string[] = []
  let last = ''
  for (const part of percentDecoded(percentDecoded(lower)).split(/[/\\]/)) {
    last = part.split(';', 1)[0] ?? ''
    if (last === '..') segments.pop()
    else if (last !== '' && last !== '.') segments.push(last.toLowerCase())
  }
  const isFolder = segments.length > 0 && /^\.{0,2}$/.test(last)
  return `/${segments.join('/')}${isFolder ? '/' : ''}`
}

function ofHost(host: string, template: Template): IdReading {
  if (ODD_HOST.test(host)) return { kind: 'unclear', text: host }
  return ofText(extract(template, host, '.'))
}

export function queryOf(path: string): string {
  const query = path.indexOf('?')
  return query === -1 ? '' : path.slice(query + 1)
}

/** Names and values of Cookie headers (RFC 6265 section 5.4), which HTTP/2 may split. */
export function cookies(values: readonly string[]): FormFields {
  return values
    .flatMap((value) => value.split(';'))
    .map((pair) => {
      const at = pair.indexOf('=')
      const [name, value] = at === -1 ? [pair, ''] : [pair.slice(0, at), pair.slice(at + 1)]
      return { name: name.replace(BLANKS, ''), value: value.replace(BLANKS, '') }
    })
}

/** Blanks around a name or a value, which receivers trim. */
const BLANKS = /^[ \t]+|[ \t]+$/g
const FORM_TYPE = 'application/x-www-form-urlencoded'
const JSON_TYPE = /^(?:application|text)\/(?:[a-z0-9.+-]+\+)?json$/
/** Charsets in which every receiver reads the same ASCII letters. */
const PLAIN_CHARSETS: ReadonlySet<string> = new Set(['utf-8', 'utf8', 'us-ascii', 'iso-8859-1'])

/** True for a content type that a source of this kind reads. */
export function readsType(kind: BodySource['kind'], contentType: string): boolean {
  const type = /^\s*([^;,\s]*)/.exec(contentType)?.[1]?.toLowerCase() ?? ''
  return kind === 'form' ? type === FORM_TYPE : JSON_TYPE.test(type)
}

/** A body of another content type counts as absent. */
function ofBody({ headers, body }: RequestHead, source: BodySource): IdReading {
  const types = headers['content-type'] ?? []
  const [type = ''] = types
  if (types.length > 1 || type.includes(',')) return { kind: 'unclear', text: types.join(', ') }
  const isThere = body !== undefined && body.length > 0
  // Without a content type receivers guess.
  if (type.trim() === '') return isThere ? { kind: 'unclear', text: 'no content type' } : ABSENT
  if (!readsType(source.kind, type)) return ABSENT
  if (!isPlainType(type)) return { kind: 'unclear', text: type }
  if (headers['content-encoding'] !== undefined) return { kind: 'unclear', text: 'an encoded body' }
  if (!isThere) return ABSENT
  if (source.kind === 'form') return ofForm(body.toString('latin1'), source.name)
  return isUtf8(body)
    ? jsonMember(body.toString('utf8'), source.steps)
    : { kind: 'unclear', text: 'no UTF-8' }
}

/** True for a type whose parameters do not change how the body's letters are read. */
function isPlainType(contentType: string): boolean {
  const [type = '', ...parameters] = contentType.split(';')
  return (
    !/\s/.test(type.trim()) &&
    parameters.every((parameter) => {
      const [name = '', value = ''] = parameter.split('=', 2)
      const charset = value.replaceAll('"', '').trim().toLowerCase()
      return name.trim().toLowerCase() !== 'charset' || PLAIN_CHARSETS.has(charset)
    })
  )
}
