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
  Scalar,
  visit,
} from 'yaml'

/** One mistake in YAML can cause many faults, each a line in the log. */
const SYNTAX_FAULTS_MAX = 20
/** Some parser messages quote the text that they did not understand. */
export const MESSAGE_LENGTH_MAX = 300
/** Reading more would block the event loop for too long. The shipped files have 30 KB. */
export const CHARACTERS_MAX = 256 * 1024

/** With aliases a small file can stand for very many nodes. The shipped files have 1,500. */
const NODES_MAX = 50_000
/** Deeper than any of Envoy's messages. */
const DEPTH_MAX = 100

interface Extent {
  readonly nodes: number
  readonly depth: number
}

export interface SourceFile {
  readonly path: string
  readonly text: string
}

/** A place in a document. */
export interface Place {
  readonly node: Node
  /** As in `routes[2].route.timeout`. */
  readonly path: string
}

/** A scalar as Envoy reads it: whole numbers of 32 bits are numbers, other numbers are texts. */
export type ScalarValue = string | number | boolean | null

/**
 * One of Envoy's YAML files, with the position of every value. Scalars mean what they mean to Envoy (yaml-cpp, and `parseYamlNode`
 * in Envoy's source/common/protobuf/yaml_utility.cc). Duplicate keys and explicit tags are faults.
 */
export class YamlFile {
  readonly root: Place
  /** Each `file:line:column: what is wrong`, in the order found. */
  readonly faults: string[] = []
  /** False if the file is not valid YAML: Envoy can't read it either. */
  readonly isYaml: boolean

  readonly #source: SourceFile
  readonly #lines = new LineCounter()
  readonly #targets = new Map<Alias, Node>()

  constructor(source: SourceFile) {
    this.#source = source
    const document = this.#parse()
    this.root = { node: (document?.contents ?? new Scalar(null)) as Node, path: '' }
    this.isYaml = this.faults.length === 0
    if (document !== undefined && this.isYaml) this.#visit(document)
  }

  /** The value under a key. */
  at(place: Place | undefined, key: string): Place | undefined {
    const found = this.entries(place).find(([name]) => name === key)
    return found?.[1]
  }

  /** Keys and values of a mapping; empty if it is not a mapping. */
  entries(place: Place | undefined): [key: string, value: Place][] {
    const node = this.#resolved(place?.node)
    if (!isMap(node)) return []
    return node.items
      .filter(({ key }) => !(isScalar(key) && key.tag === IGNORE))
      .map((pair) => {
        const keyNode = this.#resolved(pair.key)
        const key = String(isScalar(keyNode) ? keyNode.value : keyNode)
        return [key, { node: (pair.value ?? pair.key) as Node, path: join(place?.path, key) }]
      })
  }

  isMapping(place: Place): boolean {
    return isMap(this.#resolved(place.node))
  }

  isList(place: Place): boolean {
    return isSeq(this.#resolved(place.node))
  }

  /** The values of a list; empty if it is not a list. */
  items(place: Place | undefined): Place[] {
    const node = this.#resolved(place?.node)
    if (!isSeq(node)) return []
    return node.items.map((item, index) => ({ node: item as Node, path: `${place?.path}[${index}]` }))
  }

  /** A scalar as Envoy reads it; undefined for a list or a mapping. */
  scalar(place: Place | undefined): ScalarValue | undefined {
    const node = this.#resolved(place?.node)
    return isScalar(node) ? scalarOf(node) : undefined
  }

  /** A text, or the text under a key. */
  text(place: Place | undefined, key?: string): string | undefined {
    const value = this.scalar(key === undefined ? place : this.at(place, key))
    return typeof value === 'string' ? value : undefined
  }

  /** A whole number, or the one under a key. */
  number(place: Place | undefined, key?: string): number | undefined {
    const value = this.scalar(key === undefined ? place : this.at(place, key))
    return typeof value === 'number' ? value : undefined
  }

  /** Adds a fault at a place. */
  fault(place: Place, what: string): undefined {
    this.faults.push(this.line(place, what))
    return undefined
  }

  /** `file:line:column: path: what` */
  line(place: Place, what: string): string {
    return `${this.position(place)}: ${place.path === '' ? '' : `${place.path}: `}${what}`
  }

  position(place: Place): string {
    return this.#position(place.node?.range?.[0] ?? 0)
  }

  #position(offset: number): string {
    const { line, col } = this.#lines.linePos(offset)
    return `${this.#source.path}:${line}:${col}`
  }

  #parse(): Document | undefined {
    const { path, text } = this.#source
    if (text.length > CHARACTERS_MAX) {
      this.faults.push(`${path}:1:1: expected at most ${CHARACTERS_MAX} characters, got ${text.length}`)
      return undefined
    }
    try {
      const document = parseDocument(text, {
        schema: 'failsafe', // every scalar is a text at first
        lineCounter: this.#lines,
        uniqueKeys: true,
        prettyErrors: false,
        logLevel: 'error',
      })
      for (const { pos, message } of document.errors.slice(0, SYNTAX_FAULTS_MAX))
        this.faults.push(`${this.#position(pos[0])}: ${message.slice(0, MESSAGE_LENGTH_MAX)}`)
      return document
    } catch (error) {
      // The parser's stack overflows if the nesting is very deep.
      this.faults.push(`${path}:1:1: ${String(error).slice(0, MESSAGE_LENGTH_MAX)}`)
      return undefined
    }
  }

  /** Resolves each alias: it stands for the nearest anchor of its name before it. */
  #visit(document: Document): void {
    const anchors = new Map<string, Node>()
    visit(document, (key, node, ancestors) => {
      if (isAlias(node)) {
        const target = anchors.get(node.source)
        if (target === undefined)
          this.fault({ node, path: '' }, `expected an anchor &${node.source} before it`)
        else if (ancestors.includes(target))
          this.fault({ node, path: '' }, `expected no alias to a node around it: *${node.source}`)
        else this.#targets.set(node, target)
        return
      }
      if (!isScalar(node) && !isMap(node) && !isSeq(node)) return
      if (node.anchor !== undefined) anchors.set(node.anchor, node)
      if (node.tag !== undefined && !(key === 'key' && node.tag === IGNORE) && !isDefaultTag(node.tag))
        this.fault({ node, path: '' }, `expected no tag, got ${node.tag}`)
    })
    if (this.faults.length > 0) return
    const { nodes, depth } = this.#extent(document.contents, new Map())
    if (nodes > NODES_MAX || depth > DEPTH_MAX)
      this.fault(
        this.root,
        `expected at most ${NODES_MAX} nodes and ${DEPTH_MAX} levels, with aliases resolved`,
      )
  }

  /** The size with aliases resolved, which may be much more than is written. */
  #extent(node: unknown, known: Map<unknown, Extent>): Extent {
    const resolved = this.#resolved(node)
    const before = known.get(resolved)
    if (before !== undefined) return before
    const inner = isMap(resolved)
      ? resolved.items.flatMap(({ key, value }) => [key, value])
      : isSeq(resolved)
        ? resolved.items
        : []
    const extents = inner.map((item) => this.#extent(item, known))
    const extent = {
      nodes: extents.reduce((sum, { nodes }) => sum + nodes, 1),
      depth: 1 + Math.max(0, ...extents.map(({ depth }) => depth)),
    }
    known.set(resolved, extent)
    return extent
  }

  #resolved(node: unknown): unknown {
    return isAlias(node) ? this.#targets.get(node) : node
  }
}

/** Envoy ignores a key with this tag. */
const IGNORE = '!ignore'
/** The parser gives empty values this tag. */
const isDefaultTag = (tag: string): boolean => tag === ''

const NULLS = new Set(['', '~', 'null', 'Null', 'NULL'])
/** As in yaml-cpp: in lower case, in upper case, or with a capital first letter. */
const BOOLEANS: Readonly<Record<string, boolean>> = {
  y: true,
  yes: true,
  true: true,
  on: true,
  n: false,
  no: false,
  false: false,
  off: false,
}
const ONE_CASE = /^(?:[a-z]+|[A-Z]+|[A-Z][a-z]*)$/
/** As C++ streams read them: with 0x hexadecimal, with 0 octal. */
const INTEGER = /^([+-]?)(?:0[xX]([\da-fA-F]+)|0([0-7]+)|(0|[1-9]\d*))$/

function scalarOf(node: Scalar): ScalarValue {
  const text = String(node.value ?? '')
  if (node.type !== 'PLAIN') return text
  if (NULLS.has(text)) return null
  const boolean = ONE_CASE.test(text) ? BOOLEANS[text.toLowerCase()] : undefined
  if (boolean !== undefined) return boolean
  const [, sign, hexadecimal, octal, decimal] = INTEGER.exec(text) ?? []
  if (sign === undefined) return text
  const digits = hexadecimal !== undefined ? `0x${hexadecimal}` : octal !== undefined ? `0o${octal}` : decimal
  const integer = BigInt(digits ?? '0') * (sign === '-' ? -1n : 1n)
  if (integer !== BigInt.asIntN(64, integer)) return text
  return integer === BigInt.asIntN(32, integer) ? Number(integer) : String(integer)
}

function join(path: string | undefined, key: string): string {
  return path === undefined || path === '' ? key : `${path}.${key}`
}
