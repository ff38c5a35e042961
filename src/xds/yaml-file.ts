import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
} from 'yaml'
import type { MessageSchemas } from './message-schema.ts'
import { type MessageReading, type Place, readMessage } from './message-yaml.ts'

/** One mistake in YAML makes many, each a line in the log. */
const SYNTAX_FAULTS_MAX = 20
/** Some repeat what they did not understand. */
const MESSAGE_LENGTH_MAX = 300

export interface SourceFile {
  readonly path: string
  readonly text: string
}

/** A YAML file to walk through, in which every place can be named: `file:line:column`. */
export class YamlFile {
  readonly root: Place
  /** `file:line:column: what is wrong`, in the order found. */
  readonly faults: string[] = []

  readonly #source: SourceFile
  readonly #document: Document
  readonly #lines = new LineCounter()

  constructor(source: SourceFile) {
    this.#source = source
    this.#document = parseDocument(source.text, {
      lineCounter: this.#lines,
      uniqueKeys: true,
      prettyErrors: false,
    })
    this.root = { node: this.#document.contents as Node, path: '' }
    for (const { pos, message } of this.#document.errors.slice(0, SYNTAX_FAULTS_MAX))
      this.faults.push(`${this.#position(pos[0])}: ${message.slice(0, MESSAGE_LENGTH_MAX)}`)
  }

  /** The value under a key. */
  at(place: Place | undefined, key: string): Place | undefined {
    const found = this.entries(place).find(([name]) => name === key)
    return found?.[1]
  }

  /** Keys and values of a mapping; none where there is no mapping. */
  entries(place: Place | undefined): [key: string, value: Place][] {
    const node = this.#resolved(place?.node)
    if (!isMap(node)) return []
    return node.items.map((pair) => {
      const key = String(isScalar(pair.key) ? pair.key.value : pair.key)
      return [key, { node: (pair.value ?? pair.key) as Node, path: join(place?.path, key) }]
    })
  }

  /** The values of a list; none where there is no list. */
  items(place: Place | undefined): Place[] {
    const node = this.#resolved(place?.node)
    if (!isSeq(node)) return []
    return node.items.map((item, index) => ({ node: item as Node, path: `${place?.path}[${index}]` }))
  }

  /** A text, or the text under a key. */
  text(place: Place | undefined, key?: string): string | undefined {
    const value = this.#scalar(place, key)
    return typeof value === 'string' ? value : undefined
  }

  /** A number, or the number under a key. */
  number(place: Place | undefined, key?: string): number | undefined {
    const value = this.#scalar(place, key)
    return typeof value === 'number' ? value : undefined
  }

  #scalar(place: Place | undefined, key?: string): unknown {
    const node = this.#resolved((key === undefined ? place : this.at(place, key))?.node)
    return isScalar(node) ? node.value : undefined
  }

  message(schemas: MessageSchemas, name: string, place: Place, omit?: ReadonlySet<string>): MessageReading {
    const reading = readMessage(schemas, name, place, (alias) => this.#alias(alias), omit)
    for (const fault of reading.faults) this.fault(fault, `expected ${fault.expected}`)
    return reading
  }

  /** Notes what is wrong at a place. */
  fault(place: Place, what: string): undefined {
    this.faults.push(`${this.position(place)}: ${place.path === '' ? '' : `${place.path}: `}${what}`)
    return undefined
  }

  position(place: Place): string {
    return this.#position(place.node?.range?.[0] ?? 0)
  }

  #position(offset: number): string {
    const { line, col } = this.#lines.linePos(offset)
    return `${this.#source.path}:${line}:${col}`
  }

  #alias(alias: Alias): Node | undefined {
    return alias.resolve(this.#document)
  }

  #resolved(node: unknown): unknown {
    return isAlias(node) ? this.#alias(node) : node
  }
}

function join(path: string | undefined, key: string): string {
  return path === undefined || path === '' ? key : `${path}.${key}`
}
