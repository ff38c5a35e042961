import { CommandFault, shellWords } from './shell-words.ts'

/** The request that a curl command would send. */
export interface CurlRequest {
  readonly method: string
  /** Path and query. */
  readonly path: string
  readonly host: string
  /** `name: value` lines. */
  readonly headers: readonly string[]
  readonly body: string
  /** The file that holds the body; nobody reads it here. */
  readonly bodyFile: string | undefined
}

/** What an option does to the request; `ignore`: it does not change where the request goes. */
type Option = 'ignore' | ((asked: Asked, value: string) => void)

interface Asked {
  method: string | undefined
  url: string | undefined
  readonly headers: string[]
  /** Data, joined by `&`; the first entry is JSON where `--json` came first. */
  data: string | undefined
  bodyFile: string | undefined
  contentType: string | undefined
  dataInQuery: boolean
  pathAsIs: boolean
  noGlob: boolean
  readonly query: string[]
}

const FORM = 'application/x-www-form-urlencoded'

/** Options with a value. */
const VALUED: Readonly<Record<string, Option>> = {
  '--request': (asked, value) => {
    asked.method = value
  },
  '--url': setUrl,
  '--header': (asked, value) => {
    if (value.startsWith('@')) throw new CommandFault(`${value} names a file of headers: write them out`)
    asked.headers.push(value)
  },
  '--data': addDataOrFile,
  '--data-ascii': addDataOrFile,
  '--data-binary': addDataOrFile,
  '--data-raw': (asked, value) => addData(asked, value, '&', FORM),
  '--data-urlencode': addEncoded,
  '--json': (asked, value) => {
    if (value.startsWith('@')) addFile(asked, value, 'application/json')
    else addData(asked, value, '', 'application/json')
  },
  '--form': addMultipart,
  '--form-string': addMultipart,
  '--upload-file': (asked, value) => {
    asked.method ??= 'PUT'
    asked.bodyFile = value
  },
  '--cookie': (asked, value) => {
    if (!value.includes('=')) throw new CommandFault(`--cookie ${value} names a file: write name=value`)
    asked.headers.push(`cookie: ${value}`)
  },
  '--user-agent': (asked, value) => asked.headers.push(`user-agent: ${value}`),
  '--referer': (asked, value) => asked.headers.push(`referer: ${value}`),
  '--url-query': (asked, value) => {
    asked.query.push(value.startsWith('+') ? value.slice(1) : encodedPair(value))
  },
  ...ignored(
    '--user --output --write-out --max-time --connect-timeout --retry --retry-delay --retry-max-time --cacert --capath',
    '--cert --cert-type --key --key-type --pass --proxy --proxy-user --noproxy --resolve --connect-to --cookie-jar',
    '--interface --limit-rate --dump-header --tls-max --ciphers --max-redirs --max-filesize --speed-limit --speed-time',
    '--stderr --trace --trace-ascii --config-dir --unix-socket --expect100-timeout --keepalive-time --oauth2-bearer',
  ),
}

/** Options without a value. */
const FLAGS: Readonly<Record<string, Option>> = {
  '--get': (asked) => {
    asked.dataInQuery = true
  },
  '--head': (asked) => {
    asked.method ??= 'HEAD'
  },
  '--path-as-is': (asked) => {
    asked.pathAsIs = true
  },
  '--globoff': (asked) => {
    asked.noGlob = true
  },
  ...ignored(
    '--silent --show-error --verbose --insecure --location --include --fail --fail-with-body --compressed --http1.0',
    '--http1.1 --http2 --http2-prior-knowledge --http3 --ipv4 --ipv6 --remote-name --remote-header-name --no-buffer',
    '--progress-bar --netrc --tcp-nodelay --keepalive --no-keepalive --tlsv1.2 --tlsv1.3 --no-progress-meter --basic',
    '--digest --anyauth --location-trusted --compressed-ssh --tr-encoding --raw --junk-session-cookies --disable',
  ),
}

const SHORT: Readonly<Record<string, string>> = {
  X: '--request',
  H: '--header',
  d: '--data',
  F: '--form',
  T: '--upload-file',
  b: '--cookie',
  A: '--user-agent',
  e: '--referer',
  u: '--user',
  o: '--output',
  w: '--write-out',
  m: '--max-time',
  E: '--cert',
  x: '--proxy',
  U: '--proxy-user',
  c: '--cookie-jar',
  D: '--dump-header',
  Y: '--speed-limit',
  y: '--speed-time',
  G: '--get',
  I: '--head',
  g: '--globoff',
  s: '--silent',
  S: '--show-error',
  v: '--verbose',
  k: '--insecure',
  L: '--location',
  i: '--include',
  f: '--fail',
  0: '--http1.0',
  4: '--ipv4',
  6: '--ipv6',
  O: '--remote-name',
  J: '--remote-header-name',
  N: '--no-buffer',
  '#': '--progress-bar',
  n: '--netrc',
  j: '--junk-session-cookies',
  q: '--disable',
}

function ignored(...lists: string[]): Record<string, Option> {
  return Object.fromEntries(lists.flatMap((list) => list.split(' ')).map((name) => [name, 'ignore']))
}

/**
 * Parses a curl command, as browsers and API tools copy it, into the request that it would send. Reads no file and runs
 * nothing.
 * @throws CommandFault with what is not understood
 */
export function parseCurl(command: string): CurlRequest {
  const [program, ...words] = shellWords(command)
  if (program === undefined || !/^(?:.*\/)?curl(?:\.exe)?$/.test(program))
    throw new CommandFault(`expected a command that begins with curl, got ${quoted(program ?? '')}`)
  const asked: Asked = {
    method: undefined,
    url: undefined,
    headers: [],
    data: undefined,
    bodyFile: undefined,
    contentType: undefined,
    dataInQuery: false,
    pathAsIs: false,
    noGlob: false,
    query: [],
  }
  takeWords(words, asked)
  return requestOf(asked)
}

function takeWords(words: readonly string[], asked: Asked): void {
  let next = 0
  const value = (name: string): string => {
    const text = words[next]
    if (text === undefined) throw new CommandFault(`${name} has no value`)
    next += 1
    return text
  }
  while (next < words.length) {
    const word = words[next] ?? ''
    next += 1
    if (word === '--') {
      for (const url of words.slice(next)) setUrl(asked, url)
      return
    }
    if (word === '-' || !word.startsWith('-')) setUrl(asked, word)
    else if (word.startsWith('--')) takeOption(word, () => value(word), asked)
    else takeShort(word.slice(1), value, asked)
  }
}

/** `-sXPOST`: several options in one word, the last one with its value. */
function takeShort(letters: string, nextWord: (name: string) => string, asked: Asked): void {
  for (let at = 0; at < letters.length; at += 1) {
    const letter = letters.charAt(at)
    const name = SHORT[letter]
    if (name === undefined) throw unknownOption(`-${letter}`)
    const attached = letters.slice(at + 1)
    takeOption(name, () => (attached === '' ? nextWord(`-${letter}`) : attached), asked)
    if (Object.hasOwn(VALUED, name)) return
  }
}

function takeOption(name: string, value: () => string, asked: Asked): void {
  if (name === '--next') throw new CommandFault('--next begins a second request: ask about one')
  if (Object.hasOwn(VALUED, name)) {
    const text = value()
    const option = VALUED[name]
    if (typeof option === 'function') option(asked, text)
  } else if (Object.hasOwn(FLAGS, name)) {
    const option = FLAGS[name]
    if (typeof option === 'function') option(asked, '')
  } else throw unknownOption(name)
}

function unknownOption(name: string): CommandFault {
  return new CommandFault(`unknown option ${name}: leave it out if the request stays the same`)
}

function setUrl(asked: Asked, url: string): void {
  if (asked.url !== undefined)
    throw new CommandFault(`two URLs, ${quoted(asked.url)} and ${quoted(url)}: ask about one`)
  asked.url = url
}

function addData(asked: Asked, value: string, separator: string, contentType: string): void {
  asked.data = asked.data === undefined ? value : asked.data + separator + value
  asked.contentType ??= contentType
}

function addDataOrFile(asked: Asked, value: string): void {
  if (value.startsWith('@')) addFile(asked, value, FORM)
  else addData(asked, value, '&', FORM)
}

function addFile(asked: Asked, value: string, contentType: string): void {
  asked.bodyFile = value.slice(1)
  asked.contentType ??= contentType
}

/** `content`, `=content` or `name=content`, of which the content is encoded. */
function addEncoded(asked: Asked, value: string): void {
  if (/^[^=]*@/.test(value)) throw new CommandFault(`${value} names a file: write its content`)
  addData(asked, encodedPair(value), '&', FORM)
}

function encodedPair(value: string): string {
  const at = value.indexOf('=')
  const name = value.slice(0, Math.max(at, 0))
  const encoded = encodeURIComponent(value.slice(at + 1).toWellFormed()).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  )
  return name === '' ? encoded : `${name}=${encoded}`
}

/** No rule reads a multipart body, so its content does not matter. */
function addMultipart(asked: Asked): void {
  asked.data ??= ''
  asked.contentType = 'multipart/form-data; boundary=-'
}

function requestOf(asked: Asked): CurlRequest {
  const { headers, data = '', dataInQuery, bodyFile } = asked
  const { host, path } = targetOf(asked)
  const named = sentHeaders(headers)
  const hosts = named.filter((line) => nameOf(line) === 'host')
  const hasBody = !dataInQuery && (asked.data !== undefined || bodyFile !== undefined)
  const lines = named.filter((line) => nameOf(line) !== 'host')
  const { contentType } = asked
  if (hasBody && contentType !== undefined && !headers.some((line) => nameOf(line) === 'content-type'))
    lines.push(`content-type: ${contentType}`)
  const query = [...asked.query, ...(dataInQuery && data !== '' ? [data] : [])].join('&')
  const separator = query === '' ? '' : path.includes('?') ? '&' : '?'
  return {
    method: asked.method ?? (hasBody ? 'POST' : 'GET'),
    path: `${path}${separator}${query}`,
    host: hosts.at(-1)?.replace(/^[^:]*:\s*/, '') ?? host,
    headers: lines,
    body: hasBody ? data : '',
    bodyFile: dataInQuery ? undefined : bodyFile,
  }
}

/** `name;` sends an empty header, `name:` removes one of curl's own. */
function sentHeaders(lines: readonly string[]): string[] {
  return lines
    .filter((line) => !/^[^:;]*:\s*$/.test(line))
    .map((line) => (/^[^:;]+;\s*$/.test(line) ? line.replace(/;\s*$/, ':') : line))
}

function nameOf(line: string): string {
  return (/^[^:;]*/.exec(line)?.[0] ?? '').trim().toLowerCase()
}

function targetOf({ url, pathAsIs, noGlob }: Asked): { host: string; path: string } {
  if (url === undefined) throw new CommandFault('no URL')
  if (/\s/.test(url)) throw new CommandFault(`the URL ${quoted(url)} has a space in it`)
  const [, scheme = 'http', host = '', rest = ''] =
    /^(?:([a-z][a-z0-9+.-]*):\/\/)?(?:[^@/?#]*@)?([^/?#]*)([^#]*)/i.exec(url) ?? []
  if (!/^https?$/i.test(scheme)) throw new CommandFault(`expected a URL of HTTP, got ${quoted(url)}`)
  if (host === '') throw new CommandFault(`the URL ${quoted(url)} has no host`)
  if (!noGlob && /[{}[\]]/.test(rest))
    throw new CommandFault(
      `curl makes several requests of the braces or brackets in ${quoted(url)}: ask about one`,
    )
  const path = rest.startsWith('/') ? rest : `/${rest}`
  return { host, path: pathAsIs ? path : withoutDotSegments(path) }
}

/** As curl does before it sends (RFC 3986 section 5.2.4). */
function withoutDotSegments(path: string): string {
  const [, segments = '', query = ''] = /^([^?]*)(.*)$/s.exec(path) ?? []
  if (!/\/\.\.?(?:\/|$)/.test(segments)) return path
  const kept: string[] = []
  const all = segments.split('/').slice(1)
  for (const [at, segment] of all.entries()) {
    const isLast = at === all.length - 1
    if (segment === '..') kept.pop()
    if (segment !== '.' && segment !== '..') kept.push(segment)
    else if (isLast) kept.push('')
  }
  return `/${kept.join('/')}${query}`
}

function quoted(text: string): string {
  return `"${text.length > 80 ? `${text.slice(0, 80)}…` : text}"`
}
