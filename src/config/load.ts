import { readFileSync } from 'node:fs'
import { isMap, isPair, isScalar, LineCounter, type Node, parseDocument } from 'yaml'
import type { z } from 'zod'
import { type Config, configSchema } from './schema.ts'

/** Every fault of a configuration file at once, one line each: `file:line:column: key: what was expected`. */
export class ConfigError extends Error {
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(faults.join('\n'))
    this.name = 'ConfigError'
    this.faults = faults
  }
}

/**
 * Reads the configuration: `path` where the operator named one (it must exist then), else `./zonegate.yaml` where there
 * is one, else the defaults.
 * @throws ConfigError
 */
export function loadConfig(path: string | undefined): { config: Config; source: string } {
  const file = path ?? 'zonegate.yaml'
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' && path === undefined) return { config: configSchema.parse({}), source: 'defaults' }
    const why =
      code === 'ENOENT' ? 'no such file' : code === 'EACCES' ? 'not readable' : (error as Error).message
    throw new ConfigError([`${file}: ${why}; name another with --config or ZONEGATE_CONFIG`])
  }
  return { config: parseConfig(text, file), source: file }
}

/** @throws ConfigError */
export function parseConfig(text: string, file: string): Config {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true })
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset)
    return `${file}:${line}:${col}`
  }
  if (document.errors.length > 0) {
    throw new ConfigError(
      document.errors.map((error) => `${at(error.pos[0])}: ${error.message.split('\n')[0]}`),
    )
  }
  const value: unknown = document.toJS()
  const result = configSchema.safeParse(value ?? {}, { reportInput: true })
  if (result.success) return result.data
  const faults = result.error.issues.flatMap((issue) => describe(issue, document.contents, at))
  throw new ConfigError(faults.map(({ text: fault }) => fault))
}

interface Fault {
  readonly text: string
}

function describe(issue: z.core.$ZodIssue, root: Node | null, at: (offset: number) => string): Fault[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const path = [...issue.path, key]
      return { text: `${at(offsetOf(root, path))}: ${path.join('.')}: no such key` }
    })
  }
  const key = issue.path.length === 0 ? '' : `${issue.path.join('.')}: `
  const message = issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message
  const input = issue.input
  const got = input === undefined || typeof input === 'object' ? '' : `, got ${JSON.stringify(input)}`
  return [{ text: `${at(offsetOf(root, issue.path))}: ${key}${message}${got}` }]
}

/** Offset of the value at `path`, or of its nearest parent that is there; the key itself where the last step is a key. */
function offsetOf(root: Node | null, path: readonly PropertyKey[]): number {
  let node: unknown = root
  let offset = root?.range?.[0] ?? 0
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find(
        (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === String(step),
      )
      if (pair === undefined) break
      offset = (pair.key as Node).range?.[0] ?? offset
      node = pair.value
      continue
    }
    const next = (node as { items?: readonly Node[] } | null)?.items?.[Number(step)]
    if (next === undefined) break
    node = next
    offset = next.range?.[0] ?? offset
  }
  return offset
}
