import { isMap, isPair, isScalar, type Node } from 'yaml'
import type * as z from 'zod'
import { configSchema, pathAsWritten } from './schema.ts'

/** One thing that is wrong with a configuration. */
export interface Fault {
  /** Path of the file, or the name of an environment variable. */
  readonly file: string
  /** From 1; absent where the whole file is meant. */
  readonly line?: number
  readonly column?: number
  /** `dns.budgetMs`; empty where no key is meant. */
  readonly key: string
  /** What was expected, and what was there. */
  readonly message: string
}

/** Every fault of a configuration at once. */
export class ConfigError extends Error {
  readonly details: readonly Fault[]
  /** One line each: `file:line:column: key: what was expected`. */
  readonly faults: readonly string[]

  constructor(details: readonly Fault[]) {
    const faults = details.map(faultText)
    super(faults.join('\n'))
    this.name = 'ConfigError'
    this.details = details
    this.faults = faults
  }
}

export function faultText({ file, line, column, key, message }: Fault): string {
  const place = line === undefined ? file : `${file}:${line}:${column}`
  return key === '' ? `${place}: ${message}` : `${place}: ${key}: ${message}`
}

type Issue = z.core.$ZodIssue
type Path = readonly PropertyKey[]
/** Faults for unknown keys. The file of another program may have any number of them. */
const KEYS_MAX = 20
/** Of a key or a value in a message. */
const SHOWN_LENGTH_MAX = 100
/** Keys whose values no message repeats. */
const SECRETS: ReadonlySet<string> = new Set(['listen.httpToken'])

/** What was checked. */
export interface Checked {
  readonly value: unknown
  /** The document that it was made of. */
  readonly root: Node | null
  /** Where an offset of the document is. */
  readonly place: (offset: number) => { file: string; line: number; column: number }
}

/** The faults of one issue of the schema. */
export function faultsOf(found: Issue, { value, root, place }: Checked): Fault[] {
  const issue: Issue = { ...found, path: [...pathAsWritten(found.path, value)] }
  const rule = ruleText(issue.path, value)
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.slice(0, KEYS_MAX).map((key) => {
      const path = [...issue.path, key]
      return {
        ...place(offsetOf(root, path)),
        key: keyText(path),
        message: `${rule}${noSuchKey(key, found.path)}`,
      }
    })
  }
  const key = keyText(issue.path)
  const got = SECRETS.has(key) ? '' : gotText(at(value, issue.path), issue.code === 'invalid_type')
  return [{ ...place(offsetOf(root, issue.path)), key, message: `${rule}${expectation(issue)}${got}` }]
}

/** Names the rule that has the fault, so that nobody has to count the rules of a long list. */
function ruleText(path: Path, value: unknown): string {
  const [section, index, key] = path
  const name =
    section === 'rules' && typeof index === 'number' ? at(value, [section, index, 'name']) : undefined
  return typeof name === 'string' && name !== '' && key !== 'name'
    ? `in rule ${JSON.stringify(cut(name))}: `
    : ''
}

const TYPES: Readonly<Record<string, string>> = {
  object: 'keys with values',
  record: 'keys with values',
  array: 'a list',
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
}

/** What was expected, in the words of someone who writes the file. */
function expectation(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${TYPES[issue.expected] ?? issue.expected}`
    case 'invalid_value':
      return `expected one of ${issue.values.map(String).join(', ')}`
    case 'too_small':
      return issue.origin === 'array'
        ? `expected ${issue.minimum} or more entries`
        : issue.origin === 'string'
          ? 'expected a text that is not empty'
          : `expected ${issue.minimum} or more`
    case 'too_big':
      return issue.origin === 'array'
        ? `expected ${issue.maximum} entries or fewer`
        : `expected ${issue.maximum} or less`
    case 'invalid_key':
      return issue.issues[0]?.message ?? issue.message
    default:
      return issue.message
  }
}

/** @param byType the type is wrong, so name it also for a list or a mapping */
function gotText(input: unknown, byType: boolean): string {
  if (input === undefined) return ''
  if (typeof input === 'string') return `, got ${JSON.stringify(cut(input))}`
  if (typeof input !== 'object') return `, got ${String(input)}`
  if (!byType) return ''
  return input === null ? ', got nothing' : Array.isArray(input) ? ', got a list' : ', got keys'
}

function keyText(path: Path): string {
  return path.map((step) => cut(String(step))).join('.')
}

function cut(text: string): string {
  return text.length > SHOWN_LENGTH_MAX ? `${text.slice(0, SHOWN_LENGTH_MAX)}...` : text
}

function at(value: unknown, path: Path): unknown {
  return path.reduce(
    (inner, step) => (inner as Record<PropertyKey, unknown> | null | undefined)?.[step],
    value,
  )
}

/** Suggests the key that was probably meant, or lists all keys. */
function noSuchKey(key: string, path: Path): string {
  const keys = keysAt(path)
  const meant = keys.find((known) => isTypo(key, known))
  const hint = meant === undefined ? `expected one of ${keys.join(', ')}` : `did you mean ${meant}?`
  return keys.length === 0 ? 'no such key' : `no such key, ${hint}`
}

type Schema = z.core.$ZodType
/** What the definitions of the schemas in use have, each some of it. */
interface SchemaParts extends z.core.$ZodTypeDef {
  /** Of a mapping with fixed keys. */
  readonly shape?: Readonly<Record<string, Schema>>
  /** Of a mapping with any keys. */
  readonly valueType?: Schema
  /** Of a list. */
  readonly element?: Schema
  /** Of a default and the like. */
  readonly innerType?: Schema
  /** Of a value that is converted first. */
  readonly out?: Schema
}

/** The keys that the schema has below a path. */
function keysAt(path: Path): string[] {
  let parts: SchemaParts | undefined = partsOf(configSchema)
  for (const step of path) parts = partsOf(parts?.shape?.[String(step)] ?? parts?.valueType ?? parts?.element)
  return Object.keys(parts?.shape ?? {})
}

/** The definition behind defaults, conversions and the like. */
function partsOf(schema: Schema | undefined): SchemaParts | undefined {
  const parts: SchemaParts | undefined = schema?._zod.def
  const inner = parts?.innerType ?? parts?.out
  return inner === undefined ? parts : partsOf(inner)
}

/** True if a text is probably a misspelling of a known one: two edits away, or one if it is short. Case does not matter. */
export function isTypo(text: string, known: string): boolean {
  const [a, b] = [text.toLowerCase(), known.toLowerCase()]
  const distanceMax = b.length > 4 ? 2 : 1
  if (Math.abs(a.length - b.length) > distanceMax) return a.length > 2 && b.startsWith(a)
  return editDistance(a, b) <= distanceMax
}

/** Optimal string alignment: Levenshtein's distance with swaps of neighbours. */
function editDistance(a: string, b: string): number {
  let older: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const other = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swapped =
        a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? (older[j - 2] ?? a.length) + 1 : a.length
      next.push(Math.min(other, swapped, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    older = row
    row = next
  }
  return row[b.length] as number
}

/** Offset of the key at `path`, or of its nearest parent in the file. */
function offsetOf(root: Node | null, path: Path): number {
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
