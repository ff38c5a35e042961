// One row of the zones table. As the table scrolls, a row shows one zone after another.

import { element, setAttribute, setShape, setText, shape } from './dom.js'
import { count, counted, duration, rate } from './format.js'
import { createSparkline } from './sparkline.js'

/** The DNS state of a zone in words, and how bad it is. */
const STATES = {
  fresh: null,
  pinned: { text: 'pinned', tone: 'warn', shape: 'warn' },
  maintenance: { text: 'in maintenance', tone: 'warn', shape: 'warn' },
  expired: { text: 'expired', tone: 'quiet', shape: 'cold' },
  uncached: { text: 'TTL 0, not cached', tone: 'warn', shape: 'warn' },
  stale: { text: 'stale', tone: 'warn', shape: 'warn' },
  denied: { text: 'denied', tone: 'bad', shape: 'bad' },
  nxdomain: { text: 'NXDOMAIN', tone: 'bad', shape: 'bad' },
  nodata: { text: 'NODATA', tone: 'bad', shape: 'bad' },
  failed: { text: 'failed', tone: 'bad', shape: 'bad' },
  unknown: { text: 'not resolved', tone: 'quiet', shape: 'cold' },
}
const ROUTES = {
  hot: 'Hot: routed inside Envoy',
  learned: 'Learned: pushed to Envoy, which has not confirmed it yet',
  cold: 'Cold: each request asks the processor',
}

const ROUTE_TONES = { hot: 'good', cold: 'quiet' }

/** Why a zone is not hot, in words. A reason has a tone only if an operator must act. */
const COLD_REASONS = {
  not_asked: { text: 'no recent request', tone: null },
  asked_once: { text: 'only one request so far', tone: null },
  being_pushed: { text: 'being pushed', tone: null },
  ttl_zero: { text: 'TTL 0, not cached', tone: null },
  zones_max: { text: 'zonesMax reached', tone: 'warn' },
  learning_off: { text: 'learning is off', tone: null },
  no_envoy: { text: 'no Envoy connected', tone: null },
  envoy_files: { text: "not allowed by Envoy's files", tone: null },
  pinned: { text: 'in routes.yaml', tone: 'warn' },
  keys_changed: { text: 'rules changed', tone: 'warn' },
  refused_by_envoy: { text: 'rejected by Envoy', tone: 'bad' },
}

export class ZoneRow {
  element
  zone = null
  #cells = createCells()
  #clock

  /**
   * @param {{ ttlSecondsMax: number, now(): number }} clock of the processor, and the TTL of a full bar
   * @param {(zone: object) => void} onExplain
   */
  constructor(clock, onExplain) {
    this.#clock = clock
    const { id, service, name, state, addresses, ttl, rates, errors } = this.#cells
    id.button.addEventListener('click', () => onExplain(this.zone))
    this.element = element(
      'tr',
      { role: 'row' },
      element('th', { role: 'rowheader', scope: 'row', class: 'c-id' }, id.button),
      cell('service', '', service),
      cell('name', '', name),
      cell('state', '', state.route, state.answer),
      cell('addresses', '', addresses),
      ttl.cell,
      cell('rate', '', rates.text, rates.sparkline.element),
      errors.cell,
    )
  }

  /** @param {object} zone a zoneView */
  show(zone) {
    if (zone === this.zone) return
    this.zone = zone
    this.#showZone(zone)
    this.tick(this.#clock.now())
  }

  /** Shows the rest of the answer's TTL. */
  tick(now) {
    const { cell, text } = this.#cells.ttl
    const { expiresAt, state } = this.zone
    const remaining = expiresAt === null ? null : expiresAt - now
    setText(text, ttlText(remaining, state))
    const part =
      remaining === null ? 0 : Math.min(1, Math.max(0, remaining / 1000 / this.#clock.ttlSecondsMax))
    // In steps of a hundredth: the bar is a few dozen pixels wide.
    const left = `${Math.round(part * 100)}%`
    if (cell.style.getPropertyValue('--left') !== left) cell.style.setProperty('--left', left)
  }

  #showZone(zone) {
    const { id, service, name, state, addresses, rates, errors } = this.#cells
    setText(id.text, zone.id)
    setText(service, zone.service)
    setText(name, zone.name)
    setAttribute(name, 'title', zone.name)
    showState(state, zone)
    showAddresses(addresses, zone)
    setText(rates.text, rate(zone.requestsPerSecond))
    setAttribute(rates.text, 'data-tone', zone.requestsPerSecond === 0 ? 'quiet' : null)
    rates.sparkline.show(zone.history)
    showErrors(errors, zone)
  }
}

function createCells() {
  const idText = element('span')
  return {
    id: {
      text: idText,
      button: element('button', { type: 'button', title: 'Explain a request to this zone' }, idText),
    },
    service: element('span', { 'data-tone': 'quiet' }),
    name: element('span'),
    state: {
      route: element('span', {}, shape('cold'), ' ', element('span')),
      answer: element('strong', {}, shape('warn'), ' ', element('span')),
    },
    addresses: element('span'),
    ttl: createTtl(),
    rates: { text: element('span'), sparkline: createSparkline() },
    errors: createErrors(),
  }
}

function createTtl() {
  const text = element('span')
  return { text, cell: cell('ttl', 'TTL', text) }
}

function createErrors() {
  const [mark, text] = [shape('warn'), element('span')]
  return { mark, text, cell: cell('errors', 'Errors', mark, ' ', text) }
}

/** @param {string} label stands before the value on a phone, where columns have no heads */
function cell(name, label, ...children) {
  return element(
    'td',
    { role: 'cell', class: `c-${name}`, ...(label === '' ? {} : { 'data-label': label }) },
    ...children,
  )
}

function showState({ route, answer }, zone) {
  setShape(route.firstChild, zone.route)
  setText(route.lastChild, zone.route)
  const envoys = zone.envoys.length > 0 ? `\nOn ${zone.envoys.join(', ')}` : ''
  const reason = COLD_REASONS[zone.coldReason]
  const why = reason === undefined ? '' : `\nWhy: ${reason.text} (${zone.coldReason})`
  setAttribute(route, 'title', ROUTES[zone.route] + why + envoys)
  setAttribute(route, 'data-tone', ROUTE_TONES[zone.route] ?? null)
  const words = wordsOf(zone.state, reason)
  // A zone without an address has no route: every request asks the processor.
  route.hidden = STATES[zone.state]?.tone === 'bad'
  answer.hidden = words === null
  if (words === null) return
  setShape(answer.firstChild, words.shape)
  setText(answer.lastChild, words.text)
  setAttribute(answer, 'data-tone', words.tone)
}

/** The DNS state comes first. A reason without a tone is in the tooltip only. */
function wordsOf(state, reason) {
  const words = STATES[state]
  if (words !== null || reason === undefined || reason.tone === null) return words
  return { text: reason.text, tone: reason.tone, shape: reason.tone }
}

function showErrors({ cell, mark, text }, { errors }) {
  setText(text, count(errors))
  setAttribute(cell, 'data-tone', errors === 0 ? 'quiet' : 'bad')
  mark.toggleAttribute('hidden', errors === 0)
  const what = `${counted(errors, 'try', 'tries')} failed in the last minutes: 5xx, connection broken or refused`
  setAttribute(cell, 'title', errors === 0 ? null : what)
}

/** The tooltip has all addresses, and the SRV records that they come from. */
function showAddresses(span, { addresses, endpoints }) {
  setText(span, addresses.join(', ') || '–')
  const lines = addresses.map((address, at) => srvText(endpoints?.[at], address))
  setAttribute(span, 'title', addresses.length > 1 || endpoints !== undefined ? lines.join('\n') : null)
}

function srvText(endpoint, address) {
  const srv = endpoint?.srv
  if (srv === undefined) return address
  return `${address}  ${srv.target}, priority ${srv.priority}, weight ${srv.weight}`
}

function ttlText(remaining, state) {
  if (remaining === null) return '–'
  if (remaining > 0) return duration(remaining)
  return state === 'stale' || state === 'expired' ? `${duration(-remaining)} over` : '0 s'
}
