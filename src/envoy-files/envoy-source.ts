import type { IdSource, SourceKind, SourceOf } from '../routing/id-sources.ts'
import type { Template } from '../routing/patterns.ts'
import { anyCase, celText, type HeaderCondition, literal, matching, not } from './expressions.ts'

/** The character in a key in front of what a source adds. Names of rules and methods contain none of them. */
export const MARK = {
  header: '/',
  query: '/',
  path: ':',
  host: '@',
  cookie: ';',
  json: '/',
  form: '/',
} as const satisfies Record<SourceKind, string>
/** Every mark once, to be written between the brackets of a character class (RE2 and Lua). */
export const MARKS = [...new Set(Object.values(MARK))].join('')

/** A regular expression for ids that Envoy may read without the processor. */
export const ID = '[A-Za-z0-9-]+'

/**
 * What Envoy's files need to know about one source. `readId` in routing/id-sources.ts is the processor's side: both sides must read
 * the same id, or Envoy must ask the processor.
 */
export interface EnvoySource {
  /** How the listener finds the id in the head of a request. Null: the id is in the body, so a filter reads it later. */
  readonly head: {
    /** What the key gets behind the mark: a format string (Envoy doc: Substitution formatters). */
    readonly format: string
    /** A CEL condition. All requests that have the source meet it. Some others do, too: the processor decides those. */
    readonly mayHave: string
  } | null
  /** Name of the header that the id is in, in lower case. Clients may repeat it. Null: no header of this kind. */
  readonly header: string | null
  /** True if a key from this source may contain the caller's secrets. Such a key must not be logged. */
  readonly hasSecrets: boolean
  readonly inKey: IdInKey
  /** Requests that may have a second id for the processor. Envoy checks this for every key of a rule with this source. */
  readonly ambiguous: readonly HeaderCondition[]
  /** Requests whose id the processor may read in another way. Envoy checks this only for keys from this source. */
  readonly unclear: readonly HeaderCondition[]
  /**
   * Requests that have anything in the place of this source. The same rule may have another source of this kind further down its
   * list, whose keys have the same mark.
   */
  readonly present: readonly HeaderCondition[]
}

/** What a key has behind the mark: `before`, the id, `after`, and possibly a tail. */
export interface IdInKey {
  readonly before: string
  readonly after: string
  /** What may follow: once as the end of a virtual host's domain, once as a regular expression. Null: nothing may follow. */
  readonly tail: { readonly domain: string; readonly regex: string } | null
  /** Makes a regular expression of `before` or `after`. */
  readonly regexOf: (text: string) => string
}

const ID_ALONE: IdInKey = { before: '', after: '', tail: null, regexOf: literal }
const PORT = '(?::[0-9]*)?'
const known = new WeakMap<IdSource, EnvoySource>()

/** The description is made once for each source, because every push of virtual hosts asks for it. */
export function envoySource(source: IdSource): EnvoySource {
  const made = known.get(source) ?? describe(source)
  known.set(source, made)
  return made
}

function describe(source: IdSource): EnvoySource {
  switch (source.kind) {
    case 'header':
      return {
        head: { format: `%REQ(${source.name})%`, mayHave: `${celText(source.name)} in request.headers` },
        header: source.name,
        hasSecrets: false,
        inKey: ID_ALONE,
        ambiguous: [],
        unclear: [],
        present: [],
      }
    case 'query':
      return {
        head: {
          format: `%QUERY_PARAM(${source.name})%`,
          mayHave: `request.query.matches(${celText(signOf(source))})`,
        },
        header: null,
        hasSecrets: false,
        inKey: ID_ALONE,
        ambiguous: [matching(':path', `(?i)[^?]*\\?${twice(source.name, '&;', ' +')}`)],
        unclear: [],
        present: [],
      }
    case 'path':
      return ofPath(source)
    case 'host':
      return ofHost(source)
    case 'cookie':
      return ofCookie(source)
    case 'json':
    case 'form':
      return {
        head: null,
        header: null,
        hasSecrets: false,
        inKey: ID_ALONE,
        ambiguous: [],
        unclear: [],
        present: [],
      }
  }
}

function ofPath(source: SourceOf<'path'>): EnvoySource {
  const { before, after, isOpen } = source.template
  const [start, end] = [literal(before), literal(after)]
  const query = '(?:\\?.*)?'
  return {
    head: {
      // Without the query, which may contain secrets: zones receive the key, and it is logged.
      format: '%PATH(NQ:PATH)%',
      mayHave: `request.url_path.matches(${celText(signOf(source))})`,
    },
    header: null,
    hasSecrets: false,
    inKey: { before, after, tail: isOpen ? { domain: '*', regex: '.*' } : null, regexOf: literal },
    ambiguous: [],
    unclear: [not(matching(':path', `${start}${ID}${end}${isOpen ? PLAIN_SEGMENTS : ''}${query}`))],
    present: [matching(':path', `${anyCase(before)}[^/?]*${anyCase(after)}${isOpen ? '.*' : query}`)],
  }
}

function ofHost(source: SourceOf<'host'>): EnvoySource {
  const { before, after } = source.template
  return {
    head: {
      format: '%REQ(:AUTHORITY)%',
      mayHave: `request.host.matches(${celText(signOf(source))})`,
    },
    header: null,
    hasSecrets: false,
    inKey: { before, after, tail: { domain: ':*', regex: PORT }, regexOf: anyCase },
    ambiguous: [],
    unclear: [not(matching(':authority', `(?i)${literal(before)}${ID}${literal(after)}${PORT}`))],
    present: [matching(':authority', `${anyCase(before)}[^.]*${anyCase(after)}${PORT}`)],
  }
}

function ofCookie(source: SourceOf<'cookie'>): EnvoySource {
  const { name } = source
  const tail = '(?:;.*)?'
  const blanks = '[ \\t]*'
  return {
    head: {
      format: '%REQ(cookie)%',
      mayHave: `("cookie" in request.headers && request.headers["cookie"].matches(${celText(signOf(source))}))`,
    },
    header: 'cookie',
    // The key contains all cookies of the request.
    hasSecrets: true,
    inKey: { before: `${name}=`, after: '', tail: { domain: ';*', regex: tail }, regexOf: literal },
    ambiguous: [matching('cookie', `(?i)${twice(source.name, ';,', ' +\\t')}`)],
    // Envoy compares domains without case, but names of cookies are case-sensitive.
    unclear: [not(matching('cookie', `${literal(name)}=${ID}${tail}`))],
    present: [matching('cookie', `(?i)(?:.*[;,])?${blanks}${alike(name)}${blanks}(?:[=[].*)?`)],
  }
}

/** Receivers may resolve, decode or drop these parts of a path, and then read the id of another path. */
const ODD_PATH = String.raw`[%;\\]|/[/.]`
/** Receivers may read a host with these characters, or with a final dot, as another host. */
const ODD_HOST = String.raw`[^A-Za-z0-9._:\[\]-]|\.(?::[0-9]*)?$`
/** Segments of a path that every receiver reads alike: no dot segments, and no encoded characters that could make one. */
const PLAIN_SEGMENTS = String.raw`(?:[^./?%\\][^/?%\\]*/?)*`
/** So many characters of a name or pattern are searched for: Envoy takes regular expressions of up to 100 instructions in CEL. */
const SIGN_LENGTH_MAX = 20

/** The kinds that `signOf` finds; a header is there or not, and a body is read later. */
export type SignedKind = 'query' | 'path' | 'host' | 'cookie'

/**
 * A regular expression that finds a source in the query, path, host or cookies of a request. It may also find it where it is not: the
 * processor decides those requests.
 */
export function signOf(source: SourceOf<SignedKind>): string {
  switch (source.kind) {
    case 'cookie':
      return mayName(source.name, ';,')
    case 'query':
      return mayName(source.name, '&;')
    case 'path':
      return `^${anyCase(source.template.before.slice(0, SIGN_LENGTH_MAX))}|${ODD_PATH}`
    case 'host':
      return `${anyCase(endOf(source.template))}|${ODD_HOST}`
  }
}

/** The end of a host pattern tells hosts apart; without one, its beginning does. */
function endOf({ before, after }: Template): string {
  return after === '' ? before.slice(0, SIGN_LENGTH_MAX) : after.slice(-SIGN_LENGTH_MAX)
}

/**
 * Matches texts in which some receiver may find two fields with a name (`isAlike` in routing/fields.ts). A text with an encoded name
 * matches, too, because that may be the name.
 * @param ends characters that end a field
 * @param blanks characters that receivers drop around a name
 */
function twice(name: string, ends: string, blanks: string): string {
  const field = `[${blanks}]*${alike(name)}[${blanks}]*`
  return `(?:.*[${ends}])?(?:[^=${ends}]*%.*|${field}(?:[=[].*)?[${ends}](?:.*[${ends}])?${field}(?:[=[${ends}].*)?)`
}

/** Finds a field that some receiver may take for the one with this name, or a field with an encoded name. */
function mayName(name: string, ends: string): string {
  return `(?:^|[${ends}])[^=${ends}]*%|${alike(name.slice(0, SIGN_LENGTH_MAX), anyCase)}`
}

/**
 * Matches names that receivers take for this one: PHP replaces dots, blanks and a lone `[` by `_`. Two ranges match faster than five
 * characters.
 */
function alike(name: string, written = literal): string {
  return written(name).replace(/_|\\\./g, '[ -.[-_]')
}
