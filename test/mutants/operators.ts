/**
 * The small changes that a test ought to notice. They are made in the text as Node sees it once the types are stripped,
 * where every offset is that of the file; Biome's format tells operators from everything else: they stand between
 * spaces.
 */
import { stripTypeScriptTypes } from 'node:module'

export interface Mutant {
  readonly file: string
  readonly start: number
  readonly end: number
  readonly replacement: string
  readonly line: number
  /** `<` → `<=`, for people. */
  readonly text: string
}

const SWAPS: readonly (readonly [pattern: RegExp, by: Readonly<Record<string, readonly string[]>>])[] = [
  [/(?<= )(?:<=|>=|<|>)(?= )/g, { '<': ['<=', '>='], '<=': ['<', '>'], '>': ['>=', '<='], '>=': ['>', '<'] }],
  [/(?<= )(?:===|!==)(?= )/g, { '===': ['!=='], '!==': ['==='] }],
  [/(?<= )(?:&&|\|\||\?\?)(?= )/g, { '&&': ['||'], '||': ['&&'], '??': ['&&'] }],
  [
    /(?<= )[-+*/%&|](?= )/g,
    { '+': ['-'], '-': ['+'], '*': ['/'], '/': ['*'], '%': ['*'], '&': ['|'], '|': ['&'] },
  ],
  [/(?<= )(?:\+=|-=)(?= )/g, { '+=': ['-='], '-=': ['+='] }],
  [/\+\+|--/g, { '++': ['--'], '--': ['++'] }],
  [/\b(?:true|false)\b/g, { true: ['false'], false: ['true'] }],
  [/(?<![\w$])!(?=[\w(#])/g, { '!': [''] }],
  [/\bMath\.(?:min|max)(?=\()/g, { 'Math.min': ['Math.max'], 'Math.max': ['Math.min'] }],
  [/\.(?:some|every)(?=\()/g, { '.some': ['.every'], '.every': ['.some'] }],
]
/** Not part of a word, a longer number, or an exponent. */
const NUMBER = /(?<![\w$.#])\d[\d_]*(?![\w$.])/g
/** One whole statement on a line of its own: a call or an assignment. */
const STATEMENT =
  /^ +(?:this|void|await|[a-z]\w*)[\w.#?[\]]*(?:\(.*\)| [-+|&?]{0,2}= .*[^{(,[&|?:=+-]|\+\+|--)$/gm

export function mutantsOf(file: string, source: string): Mutant[] {
  const code = stripTypeScriptTypes(source)
  const masked = mask(code)
  const found: Mutant[] = []
  const add = (start: number, end: number, replacement: string, text: string): void => {
    const line = code.slice(0, start).split('\n').length
    found.push({ file, start, end, replacement, line, text })
  }
  for (const [pattern, by] of SWAPS)
    for (const { 0: was, index } of masked.matchAll(pattern))
      for (const replacement of by[was] ?? [])
        add(
          index,
          index + was.length,
          replacement,
          `${was} → ${replacement === '' ? 'nothing' : replacement}`,
        )
  for (const { 0: was, index } of masked.matchAll(NUMBER)) {
    const other = String(Number(was.replaceAll('_', '')) + 1)
    add(index, index + was.length, other, `${was} → ${other}`)
  }
  for (const { 0: was, index } of masked.matchAll(STATEMENT)) {
    const start = index + was.length - was.trimStart().length
    if (balanced(was))
      add(start, index + was.length, ';', `${code.slice(start, index + was.length)} → nothing`)
  }
  for (const { index } of masked.matchAll(/\bif (?=\()/g)) {
    const start = index + 'if ('.length
    const end = closing(masked, start)
    for (const value of ['true', 'false'])
      add(start, end, value, `if (${code.slice(start, end)}) → if (${value})`)
  }
  return found.sort((a, b) => a.start - b.start)
}

export function apply({ start, end, replacement }: Mutant, source: string): string {
  const code = stripTypeScriptTypes(source)
  return code.slice(0, start) + replacement + code.slice(end)
}

/** Comments, texts and regular expressions, each as long as it was, without anything that looks like code. */
function mask(code: string): string {
  const blank = (text: string): string => text.replace(/[^\n]/g, '_')
  return code.replace(
    /\/\*[\s\S]*?\*\/|\/\/.*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|(?<=[([,=:!&|?{};] ?)\/(?![ /*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])+\/[a-z]*/g,
    blank,
  )
}

function balanced(text: string): boolean {
  let depth = 0
  for (const character of text) {
    if ('([{'.includes(character)) depth += 1
    if (')]}'.includes(character)) depth -= 1
    if (depth < 0) return false
  }
  return depth === 0
}

/** Of the parenthesis that was opened right before. */
function closing(text: string, start: number): number {
  let depth = 1
  let at = start
  for (; at < text.length && depth > 0; at++) {
    if (text[at] === '(') depth += 1
    if (text[at] === ')') depth -= 1
  }
  return at - 1
}
