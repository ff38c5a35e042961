/** The tokens of valid JSON (RFC 8259): strings, punctuation, numbers and literals. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]:,]|[^\s{}[\]:,"]+/g
/** Integers that every receiver reads alike (RFC 8259 section 6). */
const INTEGER = /^\d{1,15}$/

interface Level {
  readonly isObject: boolean
  /** The index of the pointer's step for this level; undefined: the pointer does not lead here. */
  readonly step: number | undefined
  /** True after the pointer's next name, or a name that some receiver takes for it. */
  isNamed: boolean
  name: string
  index: number
}

/**
 * The text or integer at a JSON pointer. Receivers disagree on duplicate names, and some ignore case. So each name of the pointer
 * must be in the body exactly once, with exactly this spelling.
 */
export function jsonMember(text: string, steps: readonly string[]): IdReading {
  if (!isJson(text)) return { kind: 'unclear', text: 'no JSON' }
  const levels: Level[] = []
  let found: IdReading = { kind: 'absent' }
  let isName = false
  for (const [token] of text.matchAll(TOKEN)) {
    const level = levels.at(-1)
    if (token === '}' || token === ']') {
      levels.pop()
      isName = false
    } else if (token === ',') {
      if (level !== undefined) level.index += 1
      isName = level?.isObject === true
    } else if (token === ':') isName = false
    else if (isName && level !== undefined) {
      if (level.step === undefined) continue
      level.name = JSON.parse(token)
      const wanted = steps[level.step]
      if (wanted === undefined || folded(level.name) !== folded(wanted)) continue
      if (level.isNamed) return { kind: 'several', text: level.name }
      level.isNamed = true
      if (level.name !== wanted) return { kind: 'unclear', text: level.name }
    } else {
      const step = level === undefined ? 0 : nextStep(level, steps)
      if (token === '{' || token === '[') {
        const isObject = token === '{'
        levels.push({ isObject, step, isNamed: false, name: '', index: 0 })
        isName = isObject
        if (step === steps.length) found = { kind: 'unclear', text: 'no text and no integer' }
      } else if (step === steps.length) found = readingOf(token)
    }
  }
  return found
}

/** The index of the pointer's step for the value that begins here; undefined: the pointer does not lead into it. */
function nextStep({ isObject, step, name, index }: Level, steps: readonly string[]): number | undefined {
  if (step === undefined) return undefined
  return steps[step] === (isObject ? name : String(index)) ? step + 1 : undefined
}

function readingOf(token: string): IdReading {
  if (token.startsWith('"')) {
    const id: string = JSON.parse(token)
    return id === '' ? { kind: 'absent' } : { kind: 'id', id }
  }
  return INTEGER.test(token) ? { kind: 'id', id: token } : { kind: 'unclear', text: token }
}

/**
 * Makes names equal that lenient receivers take for equal: Go and .NET ignore case (Go also reads \u017f as "s"), C programs stop at a
 * NUL.
 */
function folded(name: string): string {
  return (name.split('\0', 1)[0] ?? '').toUpperCase().toLowerCase()
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** What one source of a request contains. `several` and `unclear`: the zone might read another id than Zonegate. */
export type IdReading =
  | { readonly kind: 'absent' }
  | { readonly kind: 'id'; readonly id: string }
  | { readonly kind: 'several' | 'unclear'; readonly text: string }
