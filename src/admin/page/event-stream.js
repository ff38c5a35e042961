// The text/event-stream format (HTML Standard, "Parsing an event stream"), for a fetch body: EventSource sends no headers.

/** In characters. A status of many thousand zones fits; an endless line does not. */
const EVENT_LENGTH_MAX = 64 * 1024 * 1024

/** Takes text in pieces of any size, and calls back with whole events. */
export class EventStreamParser {
  #onEvent
  /** Pieces of an unfinished line. They are joined once, because a large event comes in hundreds of pieces. */
  #pieces = []
  #length = 0
  #type = ''
  #lines = []
  /** The last piece ended in CR, so a LF that follows belongs to it. */
  #afterReturn = false

  /** @param {(type: string, data: string) => void} onEvent */
  constructor(onEvent) {
    this.#onEvent = onEvent
  }

  push(text) {
    this.#length += text.length
    if (this.#length > EVENT_LENGTH_MAX) throw new Error('an event is too long')
    let from = 0
    if (this.#afterReturn && text.startsWith('\n')) from = 1
    if (text !== '') this.#afterReturn = false
    for (let at = lineEnd(text, from); at !== -1; at = lineEnd(text, from)) {
      this.#pieces.push(text.slice(from, at))
      const line = this.#pieces.length === 1 ? this.#pieces[0] : this.#pieces.join('')
      this.#pieces = []
      this.#line(line)
      from = at + 1
      if (text[at] === '\r') {
        if (from === text.length) this.#afterReturn = true
        else if (text[from] === '\n') from += 1
      }
    }
    if (from < text.length) this.#pieces.push(text.slice(from))
  }

  #line(line) {
    if (line === '') return this.#dispatch()
    const colon = line.indexOf(':')
    if (colon === 0) return // a comment
    const field = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'event') this.#type = value
    else if (field === 'data') this.#lines.push(value)
  }

  #dispatch() {
    const [type, lines] = [this.#type || 'message', this.#lines]
    this.#type = ''
    this.#lines = []
    this.#length = 0
    if (lines.length > 0) this.#onEvent(type, lines.join('\n'))
  }
}

/** The position of the next LF or CR, or -1. */
function lineEnd(text, from) {
  const feed = text.indexOf('\n', from)
  const carriage = text.indexOf('\r', from)
  if (feed === -1 || carriage === -1) return Math.max(feed, carriage)
  return Math.min(feed, carriage)
}
