// Keeps the stream of events open, and says whether the page is live.

import { EventStreamParser } from './event-stream.js'

const RETRY_MS_MIN = 1000
const RETRY_MS_MAX = 15_000
/** The server sends an event every second. After this long without one, the connection is dead. */
const SILENCE_MS_MAX = 15_000
/** A hidden page disconnects after this time, so it costs the processor nothing. */
const HIDDEN_MS_MAX = 60_000

/**
 * @typedef {{ kind: 'connecting' } | { kind: 'live' } | { kind: 'paused' }
 *   | { kind: 'lost', why: string, retryAt: number }} Connection `retryAt` on the clock of performance.now()
 */

export class LiveStream {
  #fetch
  #onEvent
  #onChange
  #abort = null
  #failures = 0
  #retryTimer = 0
  #silenceTimer = 0
  #hiddenTimer = 0

  /**
   * @param {{ fetch(signal: AbortSignal): Promise<Response>, onEvent(type: string, data: string): void,
   *   onChange(connection: Connection): void }} seams
   */
  constructor({ fetch, onEvent, onChange }) {
    this.#fetch = fetch
    this.#onEvent = onEvent
    this.#onChange = onChange
    document.addEventListener('visibilitychange', () => this.#onVisibility())
    addEventListener('online', () => this.retryNow())
  }

  open() {
    this.#close()
    this.#onChange({ kind: 'connecting' })
    void this.#run()
  }

  /** Connects at once if it waits for its next try. */
  retryNow() {
    if (this.#retryTimer !== 0) this.open()
  }

  async #run() {
    const abort = new AbortController()
    this.#abort = abort
    try {
      const response = await this.#fetch(abort.signal)
      if (!response.ok) throw new Error(await reasonOf(response))
      this.#watchSilence()
      await this.#read(response.body)
      throw new Error('the processor closed the connection')
    } catch (error) {
      if (this.#abort === abort) this.#lost(error)
    }
  }

  async #read(body) {
    const parser = new EventStreamParser((type, data) => {
      this.#onEvent(type, data)
      this.#failures = 0
      this.#onChange({ kind: 'live' })
    })
    const reader = body.pipeThrough(new TextDecoderStream()).getReader()
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      this.#watchSilence()
      parser.push(value)
    }
  }

  #watchSilence() {
    clearTimeout(this.#silenceTimer)
    const abort = this.#abort
    this.#silenceTimer = setTimeout(() => {
      if (this.#abort === abort) this.#lost(new Error('the processor is silent'))
    }, SILENCE_MS_MAX)
  }

  #lost(error) {
    this.#close()
    const why = error instanceof TypeError ? 'the processor is unreachable' : error.message
    // Random, so that many pages do not reconnect at the same moment.
    const delayMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** this.#failures) * (0.75 + Math.random() / 2)
    this.#failures = Math.min(this.#failures + 1, 10)
    this.#retryTimer = setTimeout(() => this.open(), delayMs)
    this.#onChange({ kind: 'lost', why, retryAt: performance.now() + delayMs })
  }

  #close() {
    clearTimeout(this.#retryTimer)
    clearTimeout(this.#silenceTimer)
    this.#retryTimer = 0
    const abort = this.#abort
    this.#abort = null
    abort?.abort()
  }

  #onVisibility() {
    clearTimeout(this.#hiddenTimer)
    if (document.hidden) {
      this.#hiddenTimer = setTimeout(() => {
        this.#close()
        this.#onChange({ kind: 'paused' })
      }, HIDDEN_MS_MAX)
    } else if (this.#abort === null) this.open()
  }
}

/** The server's own error text, if it sent one. */
async function reasonOf(response) {
  try {
    const { error } = await response.json()
    if (typeof error === 'string') return error
  } catch {}
  return `the processor answered ${response.status}`
}
