/** Parses resolv.conf(5) as glibc does. It returns faults, and throws none. */
import { isIP } from 'node:net'
import { type DomainName, parseDomainName } from './domain-name.ts'

/** Limits of <resolv.h>: MAXNS, RES_MAXRETRANS, RES_MAXRETRY, and its defaults RES_TIMEOUT, RES_DFLRETRY. */
const NAMESERVERS_MAX = 3
const TIMEOUT_SECONDS_MAX = 30
const ATTEMPTS_MAX = 5
const TIMEOUT_SECONDS_DEFAULT = 5
const ATTEMPTS_DEFAULT = 2

export interface ResolvConf {
  /** Addresses as in the file, IPv6 with its scope id. Empty: no `nameserver` line, which means 127.0.0.1. */
  readonly nameservers: readonly string[]
  readonly search: readonly DomainName[]
  readonly timeoutMs: number
  /** Rounds over all nameservers. */
  readonly attempts: number
  readonly rotate: boolean
  /** Always TCP. */
  readonly useTcp: boolean
  readonly reload: boolean
  /** Options and lines without an effect here, as in the file. */
  readonly ignored: readonly string[]
}

/** The variables that override the file. */
export interface ResolverEnvironment {
  readonly LOCALDOMAIN?: string | undefined
  readonly RES_OPTIONS?: string | undefined
}

interface Draft {
  nameservers: string[]
  search: DomainName[]
  timeoutMs: number
  attempts: number
  rotate: boolean
  useTcp: boolean
  reload: boolean
  ignored: string[]
}

/** The settings of a resolv.conf, or why the text can't be one. */
export function parseResolvConf(
  text: string,
  environment: ResolverEnvironment,
): ResolvConf | { readonly invalid: string } {
  if (text.includes('\0')) return { invalid: 'it is not a text file' }
  const draft: Draft = {
    nameservers: [],
    search: [],
    timeoutMs: TIMEOUT_SECONDS_DEFAULT * 1000,
    attempts: ATTEMPTS_DEFAULT,
    rotate: false,
    useTcp: false,
    reload: true,
    ignored: [],
  }
  let settings = 0
  let nameserverLines = 0
  // Some editors begin a file with a byte order mark, which would hide the first line.
  for (const line of text.replace(/^\uFEFF/, '').split(/\r\n|\n|\r/)) {
    if (line.startsWith('#') || line.startsWith(';')) continue
    const words = line.split(/[ \t]+/)
    if (words.join('') === '') continue
    if (words[0] === 'nameserver') nameserverLines++
    if (applyLine(draft, words)) settings++
    else draft.ignored.push(line.trim())
  }
  if (nameserverLines > 0 && draft.nameservers.length === 0) {
    return { invalid: 'no nameserver in it is an IP address' }
  }
  if (settings === 0) {
    return { invalid: text.trim() === '' ? 'it is empty' : 'it has no valid line' }
  }
  applyEnvironment(draft, environment)
  return draft
}

/** The settings without a file: glibc asks the nameserver on this machine. */
export function absentResolvConf(environment: ResolverEnvironment): ResolvConf {
  const conf = parseResolvConf('options', environment)
  if ('invalid' in conf) throw new Error('an options line is always valid')
  return conf
}

/** False where the line has no effect. A keyword counts in column 1 only. */
function applyLine(draft: Draft, words: readonly string[]): boolean {
  const [keyword, ...rest] = words
  const values = rest.filter((word) => word !== '')
  switch (keyword) {
    case 'nameserver': {
      const address = values[0]?.replace(/[#;].*$/, '') ?? ''
      if (isIP(address) === 0 || draft.nameservers.length === NAMESERVERS_MAX) return false
      draft.nameservers.push(address)
      return true
    }
    case 'domain':
    case 'search':
      draft.search = searchDomains(keyword === 'domain' ? values.slice(0, 1) : values)
      return true
    case 'options':
      for (const option of values) applyOption(draft, option)
      return true
    default:
      return false
  }
}

function applyEnvironment(draft: Draft, environment: ResolverEnvironment): void {
  const search = environment.LOCALDOMAIN
  if (search !== undefined) draft.search = searchDomains(search.split(/\s+/))
  for (const option of (environment.RES_OPTIONS ?? '').split(/\s+/))
    if (option !== '') applyOption(draft, option)
}

/** Without the root: `search .` means no search domain. */
function searchDomains(words: readonly string[]): DomainName[] {
  return words.flatMap((word) => {
    const name = parseDomainName(word)
    return name === null || name === '' ? [] : [name]
  })
}

function applyOption(draft: Draft, option: string): void {
  const [name = '', value = ''] = option.split(':')
  const number = /^\d{1,9}$/.test(value) ? Number(value) : null
  if (name === 'timeout' && number !== null) {
    draft.timeoutMs = Math.min(Math.max(number, 1), TIMEOUT_SECONDS_MAX) * 1000
  } else if (name === 'attempts' && number !== null)
    draft.attempts = Math.min(Math.max(number, 1), ATTEMPTS_MAX)
  else if (option === 'rotate') draft.rotate = true
  else if (option === 'use-vc') draft.useTcp = true
  else if (option === 'no-reload') draft.reload = false
  // `edns0` changes nothing: queries carry EDNS in any case.
  else if (option !== 'edns0') draft.ignored.push(`options ${option}`)
}
