import { type Document, isAlias, isMap, isScalar, LineCounter, type Node, parseDocument, visit } from 'yaml'
import { readText, UnreadableFileError } from '../read-text.ts'
import { ConfigError, type Fault, faultsOf } from './faults.ts'
import { parseHostPort } from './host-port.ts'
import { type Config, configSchema } from './schema.ts'

export { ConfigError } from './faults.ts'

/** The default configuration file. */
export const CONFIG_FILE = 'zonegate.yaml'
/** More octets than any configuration has. A longer file is something else, such as a log. */
const FILE_OCTETS_MAX = 250_000
const TOKEN_FILE_OCTETS_MAX = 10_000

/** Keys that the environment overrides, for containers. */
const OVERRIDES: Readonly<Record<string, string>> = {
  ZONEGATE_GRPC: 'grpc',
  ZONEGATE_HTTP: 'http',
  ZONEGATE_HTTP_TOKEN: 'httpToken',
  ZONEGATE_HTTP_TOKEN_FILE: 'httpTokenFile',
}

/** The most faults to report: one mistake can cause many, and each is a line in the log. */
const FAULTS_MAX = 20
/** The YAML parser's messages may quote long parts of the file. */
const MESSAGE_LENGTH_MAX = 300

export type Environment = Readonly<Record<string, string | undefined>>

/** A configuration, and its source: a path, or `defaults`. */
export interface LoadedConfig {
  readonly config: Config
  readonly source: string
  /** True for an empty file, which leaves all defaults. */
  readonly isEmpty: boolean
}

/**
 * Reads the configuration from `path`, else from `./zonegate.yaml`, else uses the defaults. A given `path` must exist. The
 * variables ZONEGATE_GRPC, ZONEGATE_HTTP, ZONEGATE_HTTP_TOKEN and ZONEGATE_HTTP_TOKEN_FILE override the file's `listen`.
 * @throws ConfigError
 */
export function loadConfig(path: string | undefined, environment: Environment = {}): LoadedConfig {
  const file = path ?? CONFIG_FILE
  const text = readConfigText(file, path === undefined)
  return text === undefined
    ? { config: parseConfig('', 'defaults', environment), source: 'defaults', isEmpty: false }
    : { config: parseConfig(text, file, environment), source: file, isEmpty: text.trim() === '' }
}

function readConfigText(file: string, mayBeAbsent: boolean): string | undefined {
  try {
    return readText(file, FILE_OCTETS_MAX)
  } catch (error) {
    if (!(error instanceof UnreadableFileError)) throw error
    const { code, place, message } = error
    if (code === 'ENOENT' && mayBeAbsent) return undefined
    if (code === undefined) throw new ConfigError([{ file, ...place, key: '', message }])
    throw fault(file, `${message}; check the path on the command line or in ZONEGATE_CONFIG`)
  }
}

/** @throws ConfigError */
export function parseConfig(text: string, file: string, environment: Environment = {}): Config {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false })
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset)
    return { file, line: Math.max(1, line), column: Math.max(1, col) }
  }
  if (document.errors.length > 0) {
    const errors = document.errors.slice(0, FAULTS_MAX)
    const tooDeep = errors.filter(({ message }) => isStackOverflow(message)).slice(0, 1)
    throw new ConfigError(
      // A document that is nested too deeply has one error for each level. Report it once.
      (tooDeep.length > 0 ? tooDeep : errors).map(({ pos, message }) => ({
        ...place(pos[0]),
        key: '',
        message: syntaxText(message),
      })),
    )
  }
  const numbers = numbersAsIds(document)
  if (numbers.length > 0)
    throw new ConfigError(
      numbers.slice(0, FAULTS_MAX).map(({ offset, source, read }) => ({
        ...place(offset),
        key: `zones.${read}`,
        message: `expected quotes around ${source}, which is ${read} without them`,
      })),
    )
  const { value, variableOfKey } = override(plainValue(document, place), environment)
  const result = configSchema.safeParse(value, { reportInput: true })
  if (result.success) return result.data
  const faults = result.error.issues.slice(0, FAULTS_MAX).flatMap((issue): Fault[] => {
    const variable = variableOfKey.get(issue.path.join('.'))
    const found = faultsOf(issue, { value, root: document.contents, place })
    return variable === undefined
      ? found
      : found.map(({ key, message }) => ({ file: variable, key, message }))
  })
  throw new ConfigError(faults.slice(0, FAULTS_MAX).sort(byPlace))
}

type Place = { readonly file: string; readonly line: number; readonly column: number }

function syntaxText(message: string): string {
  return isStackOverflow(message) ? 'nested too deeply' : message.slice(0, MESSAGE_LENGTH_MAX)
}

function isStackOverflow(message: string): boolean {
  return /call stack|stack overflow/i.test(message)
}

function byPlace(a: Fault, b: Fault): number {
  return (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0)
}

/** Where operators reach a processor, and the token that they must send. */
export type OperatorsListen = Pick<Config['listen'], 'http' | 'httpToken' | 'httpTokenFile'>

/**
 * Reads the part of the configuration that a command needs to ask a running processor. The processor still runs with the
 * previous configuration if the file has faults. Then this takes what it can understand of `listen`, and defaults for the rest.
 * @returns also the file's faults
 */
export function loadOperatorsListen(
  path: string | undefined,
  environment: Environment,
): { listen: OperatorsListen; faults: readonly string[] } {
  try {
    return { listen: loadConfig(path, environment).config.listen, faults: [] }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    const value = understoodOf(path ?? CONFIG_FILE)
    const own = (override(value, environment).value as { listen?: Record<string, unknown> }).listen ?? {}
    const { http, httpToken, httpTokenFile } = own
    const defaults = parseConfig('', 'defaults').listen
    const isText = (text: unknown): text is string => typeof text === 'string'
    return {
      listen: {
        http: isText(http) && parseHostPort(http) !== null ? http : defaults.http,
        httpToken: isText(httpToken) ? httpToken : null,
        httpTokenFile: isText(httpTokenFile) ? httpTokenFile : null,
      },
      faults: error.faults,
    }
  }
}

/** Reads a file that has faults. From broken YAML it gets what stands before and around the mistake. */
function understoodOf(file: string): object {
  try {
    const value: unknown = parseDocument(readText(file, FILE_OCTETS_MAX), { logLevel: 'silent' }).toJS()
    return typeof value === 'object' && value !== null ? value : {}
  } catch {
    return {}
  }
}

/**
 * The token that clients of `listen.http` must send. Null if they need none.
 * @throws ConfigError
 */
export function readHttpToken({ listen }: { readonly listen: OperatorsListen }): string | null {
  if (listen.httpTokenFile === null) return listen.httpToken
  const key = 'listen.httpTokenFile'
  let token: string
  try {
    token = readText(listen.httpTokenFile, TOKEN_FILE_OCTETS_MAX).trim()
  } catch (error) {
    throw fault(listen.httpTokenFile, (error as Error).message, key)
  }
  if (!/^[\x21-\x7e]{16,}$/.test(token))
    throw fault(
      listen.httpTokenFile,
      'expected a token of 16 printable characters or more, without spaces',
      key,
    )
  return token
}

/** Ids of `zones` that YAML reads as other numbers: 007, 0x10, 1e3. */
function numbersAsIds({ contents }: Document.Parsed): { offset: number; source: string; read: string }[] {
  const zones = isMap(contents) ? contents.get('zones', true) : undefined
  if (!isMap(zones)) return []
  return zones.items.flatMap(({ key }) => {
    if (!isScalar(key) || typeof key.value !== 'number') return []
    const [source = '', read] = [key.source, String(key.value)]
    return source === read ? [] : [{ offset: key.range?.[0] ?? 0, source, read }]
  })
}

function plainValue(document: Document.Parsed, place: (offset: number) => Place): unknown {
  try {
    return document.toJS() ?? {}
  } catch (error) {
    // An alias without an anchor, or aliases that multiply ("billion laughs").
    const message = syntaxText((error as Error).message)
    throw new ConfigError([{ ...place(aliasOffset(document)), key: '', message }])
  }
}

/** The offset of the first alias without an anchor, else of the first alias. */
function aliasOffset(document: Document.Parsed): number {
  let first: Node | undefined
  let dangling: Node | undefined
  visit(document, (_, node) => {
    if (!isAlias(node)) return
    first ??= node
    if (node.resolve(document) !== undefined) return
    dangling = node
    return visit.BREAK
  })
  return (dangling ?? first)?.range?.[0] ?? 0
}

/** Puts the values of the environment into `listen`. */
function override(
  value: unknown,
  environment: Environment,
): { value: unknown; variableOfKey: ReadonlyMap<string, string> } {
  const variableOfKey = new Map<string, string>()
  const listen: Record<string, string> = {}
  for (const [variable, key] of Object.entries(OVERRIDES)) {
    const text = environment[variable]
    if (text === undefined || text === '') continue
    listen[key] = text
    variableOfKey.set(`listen.${key}`, variable)
  }
  if (variableOfKey.size === 0 || typeof value !== 'object' || value === null) return { value, variableOfKey }
  const own = (value as { listen?: unknown }).listen
  const merged = typeof own === 'object' && own !== null ? { ...own, ...listen } : (own ?? listen)
  return { value: { ...value, listen: merged }, variableOfKey }
}

function fault(file: string, message: string, key = ''): ConfigError {
  const only: Fault = { file, key, message }
  return new ConfigError([only])
}
