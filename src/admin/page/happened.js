// The last hour: a bar for each minute, and the events, newest first.

import { byId, element, setAttribute, setText, shape, svgElement } from './dom.js'
import { counted, timeOfDay } from './format.js'

const HOUR_MS = 3_600_000
const MINUTES = 60
/** The page has the newest events only; `zonegate history` has all. */
const EVENTS_MAX = 200
const EVERY_MS = 5000
const STRIP_HEIGHT = 24
/** Worst first: a minute has the tone of its worst event. */
const TONES = ['bad', 'warn', 'good', 'plain']
const SHAPES = { bad: 'bad', warn: 'warn', good: 'ok' }
/** The kinds of events that each choice shows. */
const SHOWN = {
  all: [],
  gateway: [
    ...['started', 'stopped', 'clock_set', 'config', 'config_refused', 'envoy_files', 'envoy_files_fault'],
    ...[
      'nameservers',
      'nameserver_failing',
      'nameserver_recovered',
      'envoy_connected',
      'envoy_disconnected',
      'nack',
      'pinned',
      'unpinned',
      'pin_over',
    ],
  ],
  zones: ['answer', 'learned', 'forgotten'],
  refusals: ['refused'],
}

export class Happened {
  #api
  #list = byId('happened-list')
  #summary = byId('happened-summary')
  #show = byId('happened-show')
  #bars
  /** Oldest first. */
  #events = []
  #leftOut = 0
  #isAsking = false
  #askedAt = Number.NEGATIVE_INFINITY

  constructor(api) {
    this.#api = api
    this.#bars = Array.from({ length: MINUTES }, (_, at) => svgElement('rect', { x: `${at}`, width: '0.8' }))
    byId('happened-strip').append(...this.#bars)
    this.#show.addEventListener('change', () => {
      this.#events = []
      this.#leftOut = 0
      this.#list.replaceChildren()
      this.#askedAt = Number.NEGATIVE_INFINITY
      void this.tick()
    })
  }

  /** Fetches new events every few seconds. Failures are silent: the top of the page says when it is not live. */
  async tick() {
    const now = performance.now()
    if (this.#isAsking || now - this.#askedAt < EVERY_MS) return
    this.#isAsking = true
    this.#askedAt = now
    const shown = this.#show.value
    try {
      const query = new URLSearchParams({
        since: `${Date.now() - HOUR_MS}`,
        after: `${this.#events.at(-1)?.seq ?? 0}`,
        limit: `${EVENTS_MAX}`,
      })
      for (const kind of SHOWN[shown]) query.append('kind', kind)
      const response = await this.#api(`api/history?${query}`)
      if (response.ok && shown === this.#show.value) this.#add(await response.json())
    } catch {
      // The next tick tries again.
    } finally {
      this.#isAsking = false
    }
  }

  #add({ events, leftOut }) {
    const from = Date.now() - HOUR_MS
    const all = [...this.#events.filter(({ at }) => at >= from), ...events]
    this.#leftOut += leftOut + Math.max(0, all.length - EVENTS_MAX)
    this.#events = all.slice(-EVENTS_MAX)
    this.#list.prepend(...events.slice(-EVENTS_MAX).map(itemOf).reverse())
    while (this.#list.childElementCount > this.#events.length) this.#list.lastElementChild.remove()
    this.#showStrip(from)
    const bad = this.#events.filter(({ tone }) => tone === 'bad').length
    const older = this.#leftOut > 0 ? '. Run "zonegate history" for older ones.' : ''
    setText(
      this.#summary,
      this.#events.length === 0
        ? 'No events in the last hour.'
        : `${counted(this.#events.length, 'event')}, ${bad} of them bad${older}`,
    )
  }

  #showStrip(from) {
    const minutes = Array.from({ length: MINUTES }, () => ({ events: 0, tone: TONES.length - 1 }))
    for (const { at, tone } of this.#events) {
      const minute =
        minutes[Math.min(MINUTES - 1, Math.max(0, Math.floor(((at - from) / HOUR_MS) * MINUTES)))]
      minute.events += 1
      minute.tone = Math.min(minute.tone, TONES.indexOf(tone))
    }
    minutes.forEach(({ events, tone }, at) => {
      const height = events === 0 ? 1 : Math.min(STRIP_HEIGHT, 6 + 4 * Math.log2(events))
      setAttribute(this.#bars[at], 'height', height.toFixed(1))
      setAttribute(this.#bars[at], 'y', (STRIP_HEIGHT - height).toFixed(1))
      setAttribute(this.#bars[at], 'data-tone', events === 0 ? null : TONES[tone])
    })
  }
}

function itemOf({ at, text, tone }) {
  const time = element('small', {}, element('time', { datetime: new Date(at).toISOString() }, timeOfDay(at)))
  const mark = tone in SHAPES ? shape(SHAPES[tone]) : element('span')
  return element('li', { 'data-tone': tone }, mark, time, element('span', {}, text))
}
