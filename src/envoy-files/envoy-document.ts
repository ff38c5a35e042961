import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  Pair,
  type ParsedNode,
  parseDocument,
  Scalar,
  visit,
  type YAMLMap,
  type YAMLSeq,
  YAMLMap as YamlMap,
  YAMLSeq as YamlSeq,
} from 'yaml'
import { CHARACTERS_MAX, MESSAGE_LENGTH_MAX, type SourceFile, YamlFile } from '../xds/yaml-file.ts'

/** A fault in the operator's Envoy files. The message is `file:line:column: fault`. */
export class RenderError extends Error {
  override readonly name = 'RenderError'
}

/** Texts that every YAML reader takes for texts even without quotes. */
const PLAIN = /^(?!(?:y|n|yes|no|on|off|true|false|null)$)[A-Za-z_][\w./-]*$/i

/** One of Envoy's files with its comments, for additions. The operator's texts stay unchanged, even `0x10`, `yes` and `1e3`. */
export class EnvoyDocument {
  readonly #path: string
  readonly #text: string
  readonly #document: Document.Parsed<ParsedNode>
  readonly #lines = new LineCounter()
  /** True once it is known that copies of what aliases stand for have an end. */
  #hasSoundAliases = false

  /** @throws RenderError if the text is not YAML or too long */
  constructor({ path, text }: SourceFile) {
    this.#path = path
    this.#text = text
    if (text.length > CHARACTERS_MAX)
      throw this.#error(0, `expected at most ${CHARACTERS_MAX} characters, got ${text.length}`)
    try {
      this.#document = parseDocument(text, {
        schema: 'failsafe',
        lineCounter: this.#lines,
        prettyErrors: false,
        logLevel: 'error',
      })
    } catch (error) {
      // The parser's stack overflows at very deep nesting.
      throw this.#error(0, String(error).slice(0, MESSAGE_LENGTH_MAX))
    }
    const [error] = this.#document.errors
    if (error !== undefined) throw this.#error(error.pos[0], error.message.slice(0, MESSAGE_LENGTH_MAX))
    if (!isMap(this.#document.contents)) throw this.#error(0, 'expected a mapping')
  }

  get root(): unknown {
    return this.#document.contents
  }

  /** The node at a path of keys; undefined: it is missing or empty. */
  at(node: unknown, ...keys: readonly string[]): unknown {
    let place = this.#resolved(node)
    for (const key of keys)
      place = isMap(place) ? this.#resolved(place.get(spelledIn(place, key), true)) : undefined
    return isScalar(place) && (place.value === null || place.value === '') ? undefined : place
  }

  text(node: unknown, ...keys: readonly string[]): string | undefined {
    const place = this.at(node, ...keys)
    return isScalar(place) ? String(place.value) : undefined
  }

  items(node: unknown, ...keys: readonly string[]): unknown[] {
    const place = this.at(node, ...keys)
    return isSeq(place) ? place.items.map((item) => this.#resolved(item)) : []
  }

  /** The list at a key. Creates it if it is missing. @throws RenderError if the key has another value */
  list(node: unknown, key: string): YAMLSeq {
    const place = this.at(node, key)
    if (isSeq(place)) return place
    if (place !== undefined) throw this.error(place, `${key}: expected a list`)
    const made = new YamlSeq()
    this.set(node, key, made)
    return made
  }

  /** The mapping at a key. Creates it if it is missing. @throws RenderError if the key has another value */
  mapping(node: unknown, key: string): YAMLMap {
    const place = this.at(node, key)
    if (isMap(place)) return place
    if (place !== undefined) throw this.error(place, `${key}: expected a mapping`)
    const made = new YamlMap()
    this.set(node, key, made)
    return made
  }

  set(node: unknown, key: string, value: unknown): void {
    const place = this.#resolved(node)
    if (!isMap(place)) throw this.error(node, 'expected a mapping')
    place.set(spelledIn(place, key), nodeOf(value))
  }

  delete(node: unknown, key: string): void {
    const place = this.#resolved(node)
    if (isMap(place)) place.delete(spelledIn(place, key))
  }

  /** Removes the entries of a mapping whose texts match. */
  removeTexts(node: unknown, pattern: RegExp): void {
    const place = this.#resolved(node)
    if (!isMap(place)) return
    for (const { key } of [...place.items])
      if (pattern.test(this.text(place, String(key)) ?? '')) place.delete(key)
  }

  /** Inserts values into a list at an index. */
  insert(list: YAMLSeq, at: number, values: readonly object[]): void {
    list.items.splice(at, 0, ...values.map(nodeOf))
  }

  append(list: YAMLSeq, values: readonly object[]): void {
    this.insert(list, list.items.length, values)
  }

  /** A copy of a node that may be changed. For an alias: a copy of its target. */
  copyOf(node: unknown): YAMLMap {
    const place = this.#resolved(node)
    if (!isMap(place)) throw this.error(node, 'expected a mapping')
    return place.clone() as YAMLMap
  }

  /**
   * Rewrites every text below a node, except below mappings for which `isLeft` is true. If the texts of only some aliases
   * of a node change, those become copies.
   * @throws RenderError if an alias is inside its own target, or if aliases stand for too many nodes
   */
  rewriteTexts(
    node: unknown,
    rewrite: (text: string) => string,
    isLeft: (mapping: unknown) => boolean = () => false,
  ): void {
    if (!this.#hasSoundAliases) {
      const [fault] = new YamlFile({ path: this.#path, text: this.#text }).faults
      if (fault !== undefined) throw new RenderError(fault)
      this.#hasSoundAliases = true
    }
    this.#keepTexts(node, isLeft)
    this.#rewriteTexts(node, rewrite, isLeft, new Set())
  }

  /** Replaces aliases in the mappings that stay as they are: what they stand for may change. */
  #keepTexts(node: unknown, isLeft: (mapping: unknown) => boolean, isKept = false): void {
    const kept = isKept || (isMap(node) && isLeft(node))
    const own = (inner: unknown): unknown => {
      const copy = kept && isAlias(inner) ? this.#copyOfTarget(inner) : inner
      this.#keepTexts(copy, isLeft, kept)
      return copy
    }
    if (isMap(node)) for (const pair of node.items) pair.value = own(pair.value)
    if (isSeq(node)) node.items = node.items.map(own)
  }

  /**
   * @param same what aliases stand for, if no text below it changes
   * @returns whether any text changed
   */
  #rewriteTexts(
    node: unknown,
    rewrite: (text: string) => string,
    isLeft: (mapping: unknown) => boolean,
    same: Set<unknown>,
  ): boolean {
    if (isScalar(node)) {
      const text = String(node.value)
      const rewritten = rewrite(text)
      if (rewritten !== text) node.value = rewritten
      return rewritten !== text
    }
    let hasChanged = false
    const rewritten = (inner: unknown): unknown => {
      const target = this.#resolved(inner)
      if (same.has(target)) return inner
      const own = isAlias(inner) ? this.#copyOfTarget(inner) : inner
      if (!this.#rewriteTexts(own, rewrite, isLeft, same)) {
        if (isAlias(inner)) same.add(target)
        return inner
      }
      hasChanged = true
      return own
    }
    if (isMap(node) && !isLeft(node)) for (const pair of node.items) pair.value = rewritten(pair.value)
    if (isSeq(node)) node.items = node.items.map(rewritten)
    return hasChanged
  }

  #copyOfTarget(alias: Alias): unknown {
    const copy = alias.resolve(this.#document)?.clone()
    if (isScalar(copy) || isMap(copy) || isSeq(copy))
      visit(copy, (_, inner) => {
        if (isScalar(inner) || isMap(inner) || isSeq(inner)) delete inner.anchor
      })
    return copy
  }

  error(node: unknown, what: string): RenderError {
    const range = (node as { range?: readonly number[] | null } | undefined)?.range
    return this.#error(range?.[0] ?? 0, what)
  }

  #error(offset: number, what: string): RenderError {
    const { line, col } = this.#lines.linePos(offset)
    return new RenderError(`${this.#path}:${Math.max(1, line)}:${Math.max(1, col)}: ${what}`)
  }

  /** @param heading lines of the comment at the beginning */
  toString(heading: readonly string[]): string {
    const own = this.#document.commentBefore
    const comment = heading.map((line) => ` ${line}`).join('\n')
    this.#document.commentBefore = comment
    const text = this.#document.toString({ lineWidth: 0, indentSeq: false, flowCollectionPadding: true })
    this.#document.commentBefore = own
    // The parser gives a file's first comment to the document only if an empty line follows it, otherwise to the first entry.
    return own ? text.replace(comment, () => comment) : text
  }

  #resolved(node: unknown): unknown {
    return isAlias(node) ? node.resolve(this.#document) : node
  }
}

/** The spelling of a field in a mapping: Envoy accepts both `hostRewrite` and `host_rewrite`. */
function spelledIn(place: YAMLMap, field: string): string {
  const asJson = field.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
  return place.has(asJson) ? asJson : field
}

/** Converts a value to nodes that mean the same to every YAML reader. */
function nodeOf(value: unknown): unknown {
  if (value instanceof YamlMap || value instanceof YamlSeq || value instanceof Scalar) return value
  if (Array.isArray(value)) {
    const list = new YamlSeq()
    list.items = value.map(nodeOf)
    return list
  }
  if (typeof value === 'object' && value !== null) {
    const map = new YamlMap()
    map.items = Object.entries(value).map(([key, inner]) => new Pair(nodeOf(key), nodeOf(inner)))
    map.flow = map.items.length === 0
    return map
  }
  const scalar = new Scalar(String(value))
  scalar.type = typeof value !== 'string' || PLAIN.test(value) ? 'PLAIN' : 'QUOTE_DOUBLE'
  return scalar
}
