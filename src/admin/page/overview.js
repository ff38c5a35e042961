// The overview: six figures, each a link to its details; and notices for the operator.

import { byId, element, setAttribute, setText, shape } from './dom.js'
import { count, rate } from './format.js'
import { createSparkline } from './sparkline.js'
import { isUnresolved } from './zone-list.js'

/** Creates the figures, and returns what updates them. */
export function createOverview() {
  const figures = {
    rate: new Figure('Requests', '#zones'),
    zones: new Figure('Zones', '#zones'),
    answers: new Figure('DNS answers', '#zones'),
    nameservers: new Figure('Nameservers', '#nameservers'),
    envoys: new Figure('Envoys', '#envoys'),
    refused: new Figure('Refused', '#refusals'),
  }
  const sparkline = createSparkline()
  figures.rate.element.classList.add('wide')
  figures.rate.element.append(sparkline.element)
  byId('overview').replaceChildren(...Object.values(figures).map(({ element }) => element))
  return {
    /** @param {Record<string, number>} recent refusals of the last minute, by reason */
    show({ status, zones, history }, recent) {
      showBuild(status)
      showNotices(status)
      figures.rate.show(`${rate(history.at(-1) ?? 0)}/s`, 'to all zones')
      sparkline.show(history)
      figures.zones.show(...zonesFigure(zones))
      figures.answers.show(...answersFigure(zones))
      figures.nameservers.show(...nameserversFigure(status))
      figures.envoys.show(...envoysFigure(status))
      figures.refused.show(...refusedFigure(status, recent))
    },
  }
}

/** One figure, which links to its details. */
class Figure {
  element
  #value = element('strong')
  #note = element('small')

  constructor(title, href) {
    this.element = element('a', { href }, element('small', {}, title), this.#value, this.#note)
  }

  show(value, note, tone = null) {
    setText(this.#value, value)
    setText(this.#note, note)
    setAttribute(this.element, 'data-tone', tone)
  }
}

function zonesFigure(zones) {
  const routes = { hot: 0, learned: 0, cold: 0 }
  for (const { route } of zones) routes[route] += 1
  const words = Object.entries(routes).filter(([route, zonesOf]) => zonesOf > 0 || route !== 'learned')
  return [count(zones.length), words.map(([route, zonesOf]) => `${count(zonesOf)} ${route}`).join(', ')]
}

function answersFigure(zones) {
  let stale = 0
  let expired = 0
  let unresolved = 0
  for (const zone of zones) {
    if (zone.state === 'stale') stale += 1
    else if (zone.state === 'expired') expired += 1
    else if (isUnresolved(zone)) unresolved += 1
  }
  if (unresolved > 0)
    return [
      `${count(unresolved)} failing`,
      `no usable address${stale > 0 ? `, ${count(stale)} stale` : ''}`,
      'bad',
    ]
  if (stale > 0) return [`${count(stale)} stale`, 'nameservers fail, old answers are used', 'warn']
  if (expired > 0) return [`${count(expired)} expired`, 'resolved again at the next request']
  return zones.length === 0 ? ['–', 'no zone yet'] : ['All fresh', 'each zone has an address']
}

function nameserversFigure({ dns: { nameservers } }) {
  const healthy = nameservers.filter(({ failures }) => failures === 0)
  const all = healthy.length === nameservers.length
  const tone = all ? null : healthy.length === 0 ? 'bad' : 'warn'
  const note = all ? 'healthy' : healthy.length === 0 ? 'all fail' : 'healthy, the rest fail'
  return [all ? count(nameservers.length) : `${healthy.length} of ${nameservers.length}`, note, tone]
}

function envoysFigure({ envoys, zonesLearned }) {
  if (envoys.length === 0) return ['None', 'connected', zonesLearned > 0 ? 'warn' : null]
  const refusing = envoys.filter(({ resources }) =>
    Object.values(resources).some(({ rejected }) => rejected > 0),
  )
  if (refusing.length > 0)
    return [count(envoys.length), `connected, ${count(refusing.length)} with a NACK`, 'bad']
  return [count(envoys.length), 'connected, all acknowledged']
}

function refusedFigure({ decisions: { refused } }, recent) {
  const sum = (counts) => Object.values(counts).reduce((total, one) => total + one, 0)
  const lately = sum(recent)
  return [
    count(sum(refused)),
    lately === 0 ? 'none in the last minute' : `${count(lately)} in the last minute`,
    null,
  ]
}

function showBuild({ build, dns }) {
  const place = byId('build')
  setText(place, [build.version, dns.search].filter(Boolean).join(' · '))
  setAttribute(place, 'title', `Zonegate ${build.version}, Node ${build.node}, started ${build.startedAt}`)
}

/** A shorter absence is an upgrade. */
const AWAY_MS_MIN = 5000
/** The notice about an absence disappears after this time. */
const AWAY_SHOWN_MS = 24 * 60 * 60 * 1000

function awayText(awayMs, startedAt) {
  const seconds = count(Math.round(awayMs / 1000))
  return `No processor ran for ${seconds} s until ${startedAt.toLocaleString()}. If Envoy ran, cold requests got 502, or with fallback.enabled Envoy resolved their names itself and counted them as zones_by_name.`
}

/** More notices would push the page out of sight. */
const PINS_SHOWN = 5

function pinNotices({ pins, fault }) {
  const notices = fault === null ? [] : [['bad', `A restart may lose pins by command: ${fault}`]]
  for (const { zone, addresses, who, because, until } of pins.slice(0, PINS_SHOWN))
    notices.push([
      'warn',
      `${who} pinned zone ${zone} to ${addresses.join(', ')} until ${new Date(until).toLocaleString()}: ${because}`,
    ])
  const more = pins.length - PINS_SHOWN
  if (more > 0)
    notices.push([
      'warn',
      `${count(more)} more zones are pinned by command. Run "zonegate pins" to list them.`,
    ])
  return notices
}

/** Screen readers speak new notices, because each asks the operator to act. */
function showNotices({ at, build, awayMs, ready, unready, config, policy, pins, certificates = [] }) {
  const notices = pinNotices(pins)
  if (!ready)
    for (const [part, why] of Object.entries(unready)) notices.push(['bad', `Not ready: ${part}: ${why}`])
  for (const fault of config.faults)
    notices.push([
      'bad',
      `The configuration file has a fault. The previous configuration stays in force. ${fault}`,
    ])
  for (const fault of policy.faults)
    notices.push(['bad', `Envoy's files have a fault. Envoy keeps the previous ones. ${fault}`])
  if (policy.reasons.length > 0)
    notices.push([
      'warn',
      `No zone is learned, so every request asks the processor: ${policy.reasons.join('; ')}`,
    ])
  for (const field of policy.unknown ?? []) notices.push(['warn', `Envoy does not understand: ${field}`])
  if (config.needsRestart.length > 0)
    notices.push(['warn', `Restart the processor to apply: ${config.needsRestart.join(', ')}`])
  for (const { file, use, what } of certificates)
    notices.push(['warn', `Certificate ${file} (upstream.tls.${use}): ${what}`])
  if (policy.needsRestart.length > 0)
    notices.push(['warn', `Restart Envoy to apply: ${policy.needsRestart.join(', ')}`])
  if (awayMs >= AWAY_MS_MIN && at - Date.parse(build.startedAt) < AWAY_SHOWN_MS)
    notices.push(['warn', awayText(awayMs, new Date(build.startedAt))])
  const place = byId('notices')
  if (place.dataset['shown'] === JSON.stringify(notices)) return
  place.dataset['shown'] = JSON.stringify(notices)
  place.replaceChildren(
    ...notices.map(([tone, text]) => element('p', { class: 'notice', 'data-tone': tone }, shape(tone), text)),
  )
}
