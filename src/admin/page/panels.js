// Tables of nameservers, Envoys, rules and refusals.

import { arrange, byId, element, setAttribute, setShape, setText, shape } from './dom.js'
import { count, counted, duration, milliseconds, rate } from './format.js'

/** These RCODEs answer a question about a name. Any other outcome is a failure of the nameserver. */
const ANSWERS = new Set(['NOERROR', 'NXDOMAIN'])

/**
 * @typedef {string | { text: string, tone?: string, shape?: string }} Cell
 * @typedef {{ cells: Cell[], note: string }} Row `note` spans the line below
 */

export class Panels {
  #nameservers = new Panel('nameservers', ['Nameserver', 'RTT', 'Failed', 'State'])
  #envoys = new Panel('envoys', ['Envoy', 'Acknowledged', 'NACKs'])
  #rules = new Panel('rules', ['Rule', 'Req/s', 'Refused', 'Requests'])
  #refusals = new Panel('refusals', ['Reason', 'Last min', 'Total'])
  /** The meaning of each reason, from page/reasons.json. */
  reasons = {}

  /** @param {Record<string, number>} recent refusals of the last minute, by reason */
  show(status, recent) {
    const { nameservers } = status.dns
    this.#nameservers.show(nameservers.map(nameserverRow), 'There is no nameserver. Check resolv.conf.')
    this.#envoys.show(
      status.envoys.map((envoy) => envoyRow(envoy, status.build.envoy)),
      'No Envoy is connected. Running Envoys keep the zones that they have, and send other requests here.',
    )
    this.#rules.show(status.rules.map(ruleRow), 'There are no rules.')
    const refused = Object.entries(status.decisions.refused).filter(([, all]) => all > 0)
    this.#refusals.show(
      refused
        .sort((a, b) => b[1] - a[1])
        .map(([reason, all]) => refusalRow(reason, recent[reason] ?? 0, all, this.reasons[reason])),
      'The processor has refused no request since it started.',
    )
  }
}

/** A table that changes cell by cell, so that a selection or a screen reader's position survives. */
class Panel {
  #place
  #empty = element('small')
  #table
  #body = element('tbody')
  #rows = []

  constructor(id, heads) {
    this.#place = byId(id).querySelector('.panel')
    this.#table = element(
      'table',
      { 'aria-labelledby': `${id}-title` },
      element('thead', {}, element('tr', {}, ...heads.map((head) => element('th', { scope: 'col' }, head)))),
      this.#body,
    )
  }

  /** @param {Row[]} rows */
  show(rows, emptyText) {
    setText(this.#empty, emptyText)
    arrange(this.#place, [rows.length === 0 ? this.#empty : this.#table])
    while (this.#rows.length < rows.length) this.#rows.push(new PanelRow(rows[0].cells.length))
    this.#rows.length = rows.length
    rows.forEach((row, at) => {
      this.#rows[at].show(row)
    })
    arrange(
      this.#body,
      this.#rows.flatMap(({ elements }) => elements),
    )
  }
}

class PanelRow {
  elements
  #cells
  #note = element('td')

  constructor(columns) {
    this.#cells = Array.from({ length: columns }, (_, at) => {
      const [mark, text] = [shape('ok'), element('span')]
      const cell = at === 0 ? element('th', { scope: 'row' }) : element('td')
      cell.append(mark, ' ', text)
      return { cell, mark, text }
    })
    this.#note.colSpan = columns
    this.elements = [element('tr', {}, ...this.#cells.map(({ cell }) => cell)), element('tr', {}, this.#note)]
  }

  show({ cells, note }) {
    cells.forEach((value, at) => {
      const { cell, mark, text } = this.#cells[at]
      const {
        text: words,
        tone = null,
        shape: name = '',
      } = typeof value === 'string' ? { text: value } : value
      setText(text, words)
      setAttribute(cell, 'data-tone', tone)
      mark.toggleAttribute('hidden', name === '')
      if (name !== '') setShape(mark, name)
    })
    setText(this.#note, note)
  }
}

function nameserverRow({ nameserver, failures, smoothedRttMs, outcomes }) {
  let failed = 0
  const parts = []
  for (const [outcome, times] of Object.entries(outcomes)) {
    if (!ANSWERS.has(outcome)) failed += times
    parts.push(`${count(times)} ${outcome}`)
  }
  const asked = parts.length === 0 ? 'No queries yet' : parts.join(', ')
  return {
    cells: [
      nameserver,
      smoothedRttMs === null ? '–' : milliseconds(smoothedRttMs),
      failed === 0 ? { text: '0', tone: 'quiet' } : count(failed),
      failures === 0
        ? { text: 'healthy', tone: 'good', shape: 'ok' }
        : { text: 'failing', tone: 'bad', shape: 'bad' },
    ],
    note: failures === 0 ? asked : `${counted(failures, 'failure')} in a row. ${asked}`,
  }
}

/** @param tested the Envoy version that this release is tested with */
function envoyRow({ envoy, version, testedVersion, connectedMs, resources, lastRejection }, tested) {
  const { cluster, endpoints, virtualHost } = resources
  const kinds = [cluster, endpoints, virtualHost]
  const nacks = kinds.reduce((sum, kind) => sum + kind.nacks, 0)
  const refused = kinds.reduce((sum, kind) => sum + kind.rejected, 0)
  const held = `${counted(cluster.held, 'cluster')}, ${count(endpoints.held)} with endpoints, and ${counted(virtualHost.held, 'route')}`
  const refusal = refused === 0 ? '' : `; rejects ${count(refused)}`
  const which =
    version === null
      ? ''
      : testedVersion
        ? `Envoy ${version}. `
        : `Envoy ${version}; this release is tested with ${tested}. `
  const nack = lastRejection === undefined ? '' : ` Last NACK: ${lastRejection}`
  return {
    cells: [
      testedVersion ? envoy || 'unnamed' : { text: envoy, tone: 'warn', shape: 'warn' },
      refused === 0
        ? { text: 'all', tone: 'good', shape: 'ok' }
        : { text: 'not all', tone: 'bad', shape: 'bad' },
      nacks === 0 ? { text: '0', tone: 'quiet' } : { text: count(nacks), tone: 'bad' },
    ],
    note: `${which}Connected for ${duration(connectedMs)}. Has ${held}${refusal}.${nack}`,
  }
}

function ruleRow({ name, requests, refused, requestsPerSecond }) {
  const reasons = Object.entries(refused).sort((a, b) => b[1] - a[1])
  const all = reasons.reduce((sum, [, times]) => sum + times, 0)
  return {
    cells: [
      name,
      rate(requestsPerSecond),
      all === 0 ? { text: '0', tone: 'quiet' } : count(all),
      count(requests),
    ],
    note: reasons.map(([reason, times]) => `${count(times)} ${reason}`).join(', '),
  }
}

function refusalRow(reason, recent, all, texts) {
  return {
    cells: [
      reason,
      recent === 0 ? { text: '0', tone: 'quiet' } : { text: count(recent), tone: 'bad' },
      count(all),
    ],
    note: texts?.cause ?? '',
  }
}
