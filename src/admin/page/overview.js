// The overview: six figures, each the way to what is behind it; and what needs an operator's eye.

import { byId, element, setAttribute, setText, shape } from './dom.js'
import { count, rate } from './format.js'
import { createSparkline } from './sparkline.js'
import { isUnresolved } from './zone-list.js'

/** Fills the overview's place. */
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

/** One figure of the overview, and the way to what is behind it. */
class Figure {
  element
  #value = element('strong')
  #note = element('span', { class: 'note' })

  constructor(title, href) {
    this.element = element('a', { href }, element('span', { class: 'title' }, title), this.#value, this.#note)
  }

  show(value, note, tone = null) {
    setText(this.#value, value)
    setText(this.#note, note)
    setAttribute(this.element, 'data-tone', tone)
  }
}

function zonesFigure(zones) {
  let hot = 0
  for (const { route } of zones) if (route === 'hot') hot += 1
  return [count(zones.length), `${count(hot)} hot, ${count(zones.length - hot)} cold`]
}

function answersFigure(zones) {
  let stale = 0
  let unresolved = 0
  for (const zone of zones) {
    if (zone.state === 'stale') stale += 1
    else if (isUnresolved(zone)) unresolved += 1
  }
  if (unresolved > 0)
    return [
      `${count(unresolved)} failing`,
      `no address to use${stale > 0 ? `, ${count(stale)} stale` : ''}`,
      'bad',
    ]
  if (stale > 0) return [`${count(stale)} stale`, 'nameservers fail, old answers serve', 'warn']
  return zones.length === 0 ? ['–', 'no zone yet'] : ['All fresh', 'each zone has an address']
}

function nameserversFigure({ dns: { nameservers } }) {
  const healthy = nameservers.filter(({ failures }) => failures === 0)
  const all = healthy.length === nameservers.length
  const tone = all ? null : healthy.length === 0 ? 'bad' : 'warn'
  const note = all ? 'healthy' : healthy.length === 0 ? 'all fail' : 'healthy, others penalised'
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

/** Spoken when they come, because they ask for something to be done. */
function showNotices({ ready, unready, config }) {
  const notices = []
  if (!ready)
    for (const [part, why] of Object.entries(unready)) notices.push(['bad', `Not ready: ${part}: ${why}`])
  for (const fault of config.faults)
    notices.push(['bad', `The configuration is at fault, the one before stays in force: ${fault}`])
  if (config.needsRestart.length > 0)
    notices.push(['warn', `Waits for a restart: ${config.needsRestart.join(', ')}`])
  const place = byId('notices')
  if (place.dataset['shown'] === JSON.stringify(notices)) return
  place.dataset['shown'] = JSON.stringify(notices)
  place.replaceChildren(
    ...notices.map(([tone, text]) => element('p', { class: 'notice', 'data-tone': tone }, shape(tone), text)),
  )
}
