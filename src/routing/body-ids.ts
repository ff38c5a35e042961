/** The tokens of a JSON text that is known to be one (RFC 8259): texts, marks, and everything else. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]:,]|[^\s{}[\]:,"]+/g
/** Integers that every receiver reads alike (RFC 8259 section 6). */
const INTEGER = /^\d{1,15}$/

interface Level {
  readonly isObject: boolean
  /** The pointer leads through here: this is the level of its step with that number. */
  readonly step: number | undefined
  /** The pointer's next name was there before, or one that some receiver takes for it. */
  isNamed: boolean
  name: string
  index: number
}

/**
 * The text or integer at a JSON pointer. Receivers differ in what they make of a name that is there twice, and some take
 * names that differ in case only for one: on the pointer's way each name is there once, as it is written.
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

/** Which step of the pointer comes next behind the value that begins now; undefined where it isn't on the way. */
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

/** Go and .NET know no case: to Go \u017f is an "s", too. Programs in C end a name at a NUL. */
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

/** What one source says. `several` and `unclear`: what is read here need not be what the zone reads. */
export type IdReading =
  | { readonly kind: 'absent' }
  | { readonly kind: 'id'; readonly id: string }
  | { readonly kind: 'several' | 'unclear'; readonly text: string }
