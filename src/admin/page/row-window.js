// A list of any length. Only the visible rows, and a few more, are in the document.

import { arrange, setAttribute } from './dom.js'

/** Rows above and below the visible ones, for the Tab key and for fast scrolling. */
const OVERSCAN = 12

/**
 * Rows have absolute positions in a body that is as high as the whole list. Their order in the document is the order of
 * the list, for the Tab key and for screen readers; aria-rowindex says where they are in the list.
 */
export class RowWindow {
  #body
  #createRow
  #items = []
  /** The rows in the document, by the key of their item. */
  #rows = new Map()
  #spare = []
  /** 0: not known yet, or the page has changed its size. */
  #knownRowHeight = 0
  #frame = 0

  /**
   * @param {HTMLElement} body
   * @param {() => { element: HTMLElement, show(item: { key: string }): void }} createRow
   */
  constructor(body, createRow) {
    this.#body = body
    this.#createRow = createRow
    addEventListener('scroll', () => this.#renderSoon(), { passive: true })
    new ResizeObserver(() => {
      this.#knownRowHeight = 0
      this.#renderSoon()
    }).observe(document.body)
    body.addEventListener('keydown', (event) => this.#onArrow(event))
  }

  /** The rows in the document. */
  get rows() {
    return this.#rows.values()
  }

  show(items) {
    this.#items = items
    this.#render()
  }

  /** True while something in a row has the focus. */
  get hasFocus() {
    return this.#body.contains(document.activeElement)
  }

  /** Scrolls to an item's row and focuses it. @returns false if the item has left the list */
  focus(key) {
    const index = this.#items.findIndex((item) => item.key === key)
    if (index === -1) return false
    const { top } = this.#body.getBoundingClientRect()
    const place = top + (index + 0.5) * this.#rowHeight
    if (place < window.innerHeight * 0.25 || place > window.innerHeight * 0.9)
      scrollBy(0, place - window.innerHeight / 2)
    this.#render()
    this.#rows.get(key).element.querySelector('button').focus({ preventScroll: true })
    return true
  }

  get #rowHeight() {
    this.#knownRowHeight ||= Number.parseFloat(getComputedStyle(this.#body).getPropertyValue('--row'))
    return this.#knownRowHeight
  }

  #renderSoon() {
    this.#frame ||= requestAnimationFrame(() => this.#render())
  }

  #render() {
    cancelAnimationFrame(this.#frame)
    this.#frame = 0
    const rows = this.#rowsFor(this.#withFocused(...this.#inSight()))
    this.#rows.clear()
    for (const [index, row] of rows) {
      const item = this.#items[index]
      this.#rows.set(item.key, row)
      row.show(item)
      setAttribute(row.element, 'aria-rowindex', String(index + 2))
      const top = `${index * this.#rowHeight}px`
      if (row.element.style.top !== top) row.element.style.top = top
    }
    arrange(
      this.#body,
      Array.from(rows.values(), ({ element }) => element),
    )
    this.#body.style.height = `${this.#items.length * this.#rowHeight}px`
  }

  /** The row that an item has, else a spare one. */
  #rowsFor(indexes) {
    const rows = new Map(indexes.map((index) => [index, this.#rows.get(this.#items[index].key)]))
    const used = new Set(rows.values())
    for (const row of this.#rows.values()) {
      if (used.has(row)) continue
      // Removed first, so that no row that stays has to move.
      if (!row.element.contains(document.activeElement)) row.element.remove()
      this.#spare.push(row)
    }
    for (const [index, row] of rows) rows.set(index, row ?? this.#spare.pop() ?? this.#createRow())
    this.#spare.length = Math.min(this.#spare.length, OVERSCAN)
    return rows
  }

  #inSight() {
    const { top } = this.#body.getBoundingClientRect()
    const bound = (index) => Math.min(this.#items.length, Math.max(0, index))
    const first = Math.floor(-top / this.#rowHeight)
    const last = Math.ceil((window.innerHeight - top) / this.#rowHeight)
    return [bound(first - OVERSCAN), bound(last + OVERSCAN)]
  }

  /** Keeps the row that has the focus in the document, wherever the page scrolls. */
  #withFocused(from, to) {
    const indexes = Array.from({ length: to - from }, (_, at) => from + at)
    for (const [key, row] of this.hasFocus ? this.#rows : []) {
      if (!row.element.contains(document.activeElement)) continue
      const index = this.#items.findIndex((item) => item.key === key)
      if (index >= to) indexes.push(index)
      else if (index !== -1 && index < from) indexes.unshift(index)
    }
    return indexes
  }

  /** The arrow keys go from row to row. */
  #onArrow(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    const row = event.target.closest('[aria-rowindex]')
    if (step === undefined || row === null) return
    const item = this.#items[Number(row.getAttribute('aria-rowindex')) - 2 + step]
    if (item === undefined) return
    event.preventDefault()
    const next = this.#rows.get(item.key)
    // The row is missing if keys come faster than frames, or if the page was scrolled away from the focus.
    if (next === undefined) this.focus(item.key)
    else next.element.querySelector('button').focus()
  }
}
