// The zones table: columns, search and order.

import { byId, element, setAttribute, setText } from './dom.js'
import { count, counted } from './format.js'
import { RowWindow } from './row-window.js'
import { COLUMNS, filterZones, SHOWN, sortZones } from './zone-list.js'
import { ZoneRow } from './zone-row.js'

const SPOKEN_AFTER_MS = 800
const ARROWS = { ascending: ' ↑', descending: ' ↓' }
const OPPOSITE = { ascending: 'descending', descending: 'ascending' }

export class ZoneTable {
  #body = byId('rows')
  #table = this.#body.closest('table')
  #window
  #sort = { key: 'id', direction: 'ascending' }
  #filter = { search: '', show: 'all' }
  #clock
  #all = []
  /** The zones in the table, in its order. */
  #zones = []
  #pointed = false
  #spokenTimer = 0

  /**
   * @param {{ ttlSecondsMax: number, now(): number }} clock
   * @param {(zone: object) => void} onExplain
   */
  constructor(clock, onExplain) {
    this.#clock = clock
    this.#window = new RowWindow(this.#body, () => new ZoneRow(clock, onExplain))
    this.#createHeads()
    this.#createChoices()
    this.#sortBy('id', 'ascending')
    this.#holdWhilePointed()
  }

  /** @param {object[]} zones zoneViews; an unchanged zone is the same object as before */
  update(zones) {
    this.#all = zones
    this.#select()
  }

  /** Call it every second: TTLs count down. */
  tick() {
    const now = this.#clock.now()
    for (const row of this.#window.rows) row.tick(now)
  }

  /** Moves the focus to a zone's row, wherever it is now. */
  focus(zone) {
    if (!this.#window.focus(zone.key)) byId('search').focus()
  }

  /** Changes the search text or the choice of zones. */
  filter(change) {
    this.#filter = { ...this.#filter, ...change }
    const { search, show } = this.#filter
    if (byId('search').value !== search) byId('search').value = search
    byId('show').value = show
    this.#select()
    // Screen readers speak the count when typing stops, not at each letter, nor when zones come and go.
    clearTimeout(this.#spokenTimer)
    this.#spokenTimer = setTimeout(
      () => setText(byId('found'), byId('zones-count').textContent),
      SPOKEN_AFTER_MS,
    )
  }

  #select() {
    const found = filterZones(this.#all, this.#filter)
    // Rows keep their places while the pointer or the focus is on one.
    const held = this.#pointed || this.#window.hasFocus
    this.#zones = held ? inOrderOf(this.#zones, found, this.#sort) : sortZones(found, this.#sort)
    const { search, show } = this.#filter
    const some = search.trim() !== '' || show !== 'all'
    const total = counted(this.#all.length, 'zone')
    setText(byId('zones-count'), some ? `${count(found.length)} of ${total}` : total)
    setAttribute(this.#table, 'aria-rowcount', String(found.length + 1))
    this.#showEmpty(found.length === 0, this.#all.length > 0)
    this.#window.show(this.#zones)
  }

  #showEmpty(empty, filtered) {
    const place = byId('zones-empty')
    this.#table.hidden = empty
    place.hidden = !empty
    const kind = filtered ? 'filtered' : 'none'
    if (!empty || place.dataset['kind'] === kind) return
    place.dataset['kind'] = kind
    if (filtered) {
      const all = element('button', { type: 'button' }, 'Show all zones')
      all.addEventListener('click', () => {
        this.filter({ search: '', show: 'all' })
        byId('search').focus()
      })
      place.replaceChildren(element('strong', {}, 'No zone matches'), all)
      return
    }
    place.replaceChildren(
      element('strong', {}, 'No requests yet'),
      element(
        'p',
        {},
        'A zone appears with its first forwarded request, and disappears when requests stop. To see what a request would do now, explain one above.',
      ),
    )
  }

  #sortBy(key, direction) {
    this.#sort = { key, direction }
    this.#zones = sortZones([...this.#zones], this.#sort)
    for (const head of byId('columns').children) {
      const sorted = head.dataset['key'] === key
      setAttribute(head, 'aria-sort', sorted ? direction : null)
      setText(head.querySelector('span'), sorted ? ARROWS[direction] : '')
    }
    byId('sort').value = `${key} ${direction}`
    this.#window.show(this.#zones)
  }

  #createHeads() {
    for (const { key, title, first } of COLUMNS) {
      const button = element('button', { type: 'button' }, title, element('span', { 'aria-hidden': 'true' }))
      button.addEventListener('click', () => {
        this.#sortBy(key, this.#sort.key === key ? OPPOSITE[this.#sort.direction] : first)
      })
      const attributes = { role: 'columnheader', scope: 'col', 'data-key': key, class: `c-${key}` }
      byId('columns').append(element('th', attributes, button))
    }
  }

  #createChoices() {
    const [search, show, sort] = [byId('search'), byId('show'), byId('sort')]
    for (const [value, { title }] of Object.entries(SHOWN)) show.append(element('option', { value }, title))
    for (const { key, title, first } of COLUMNS) {
      for (const direction of [first, OPPOSITE[first]]) {
        sort.append(element('option', { value: `${key} ${direction}` }, title + ARROWS[direction]))
      }
    }
    search.addEventListener('input', () => this.filter({ search: search.value }))
    search.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.filter({ search: '' })
    })
    show.addEventListener('change', () => this.filter({ show: show.value }))
    sort.addEventListener('change', () => this.#sortBy(...sort.value.split(' ')))
  }

  #holdWhilePointed() {
    this.#body.addEventListener('pointermove', ({ pointerType }) => {
      this.#pointed = pointerType === 'mouse'
    })
    this.#body.addEventListener('pointerleave', () => {
      this.#pointed = false
      this.#select()
    })
  }
}

/** The found zones in the order that they had before; new ones follow. */
function inOrderOf(before, found, sort) {
  const byKey = new Map(found.map((zone) => [zone.key, zone]))
  const kept = []
  for (const { key } of before) {
    const zone = byKey.get(key)
    if (zone === undefined) continue
    kept.push(zone)
    byKey.delete(key)
  }
  return [...kept, ...sortZones([...byKey.values()], sort)]
}
