import { readFileSync } from 'node:fs'
import { LineCounter, parseDocument } from 'yaml'
import { ConfigError, type Fault, faultsOf } from './faults.ts'
import { type Config, configSchema } from './schema.ts'

export { ConfigError } from './faults.ts'

/** The file that is read where none is named. */
export const CONFIG_FILE = 'zonegate.yaml'
/** No configuration is as long; a log file that is named by mistake is. */
const FILE_LENGTH_MAX = 1_000_000

/** Keys that the environment overrides, for containers. */
const OVERRIDES: Readonly<Record<string, string>> = {
  ZONEGATE_HTTP: 'http',
  ZONEGATE_HTTP_TOKEN: 'httpToken',
  ZONEGATE_HTTP_TOKEN_FILE: 'httpTokenFile',
}

/** One mistake in YAML makes many, each a line in the log. */
const SYNTAX_FAULTS_MAX = 20
/** Some repeat what they did not understand. */
const MESSAGE_LENGTH_MAX = 300

export type Environment = Readonly<Record<string, string | undefined>>

/** A configuration and where it is from: a path, or `defaults`. */
export interface LoadedConfig {
  readonly config: Config
  readonly source: string
}

/**
 * Reads the configuration: `path` where the operator named one (it must exist then), else `./zonegate.yaml` where there
 * is one, else the defaults. Of `environment`, ZONEGATE_HTTP, ZONEGATE_HTTP_TOKEN and ZONEGATE_HTTP_TOKEN_FILE stand
 * above the file's `listen`.
 * @throws ConfigError
 */
export function loadConfig(path: string | undefined, environment: Environment = {}): LoadedConfig {
  const file = path ?? CONFIG_FILE
  const text = readText(file, path === undefined)
  return text === undefined
    ? { config: parseConfig('', 'defaults', environment), source: 'defaults' }
    : { config: parseConfig(text, file, environment), source: file }
}

function readText(file: string, mayBeAbsent: boolean): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' && mayBeAbsent) return undefined
    const why = code === 'ENOENT' ? 'no such file' : code === 'EACCES' ? 'not readable' : message
    throw fault(file, `${why}; name another with --config or ZONEGATE_CONFIG`)
  }
}

/** @throws ConfigError */
export function parseConfig(text: string, file: string, environment: Environment = {}): Config {
  if (text.length > FILE_LENGTH_MAX) throw fault(file, `expected ${FILE_LENGTH_MAX} characters or fewer`)
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false })
  const place = (offset: number): { file: string; line: number; column: number } => {
    const { line, col } = lines.linePos(offset)
    return { file, line: Math.max(1, line), column: Math.max(1, col) }
  }
  if (document.errors.length > 0) {
    throw new ConfigError(
      document.errors.slice(0, SYNTAX_FAULTS_MAX).map(({ pos, message }) => ({
        ...place(pos[0]),
        key: '',
        message: message.slice(0, MESSAGE_LENGTH_MAX),
      })),
    )
  }
  const { value, variableOfKey } = override(plainValue(document, file), environment)
  const result = configSchema.safeParse(value, { reportInput: true })
  if (result.success) return result.data
  const faults = result.error.issues.flatMap((issue): Fault[] => {
    const variable = variableOfKey.get(issue.path.join('.'))
    const found = faultsOf(issue, { value, root: document.contents, place })
    return variable === undefined
      ? found
      : found.map(({ key, message }) => ({ file: variable, key, message }))
  })
  throw new ConfigError(faults.sort(byPlace))
}

function byPlace(a: Fault, b: Fault): number {
  return (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0)
}

/**
 * The token that clients of `listen.http` must send; null: none.
 * @throws ConfigError
 */
export function readHttpToken({ listen }: Config): string | null {
  if (listen.httpTokenFile === null) return listen.httpToken
  const key = 'listen.httpTokenFile'
  let token: string
  try {
    token = readFileSync(listen.httpTokenFile, 'utf8').trim()
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw fault(listen.httpTokenFile, code === 'ENOENT' ? 'no such file' : message, key)
  }
  if (!/^[\x21-\x7e]{16,}$/.test(token))
    throw fault(
      listen.httpTokenFile,
      'expected a token of 16 printable characters or more, without spaces',
      key,
    )
  return token
}

function plainValue(document: ReturnType<typeof parseDocument>, file: string): unknown {
  try {
    return document.toJS() ?? {}
  } catch (error) {
    // Aliases that multiply themselves ("billion laughs").
    throw fault(file, (error as Error).message)
  }
}

/** Puts what the environment says into `listen`. */
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
