// The explain box: what the processor would do with a request, step by step.

import { byId, element, shape } from './dom.js'
import { milliseconds } from './format.js'

/** A step's name, for people. */
const STEPS = {
  method: 'Method',
  id: 'Id',
  service: 'Service',
  name: 'Name',
  cache: 'Cache',
  query: 'Query',
  answer: 'Answer',
  addresses: 'Addresses',
  decision: 'Decision',
  envoy: 'Envoy',
}

export class ExplainBox {
  #api
  #form = byId('explain')
  #place = byId('explained')
  /** Counts questions: an answer to an older one is not shown. */
  #asked = 0

  /** @param {(path: string, options?: RequestInit) => Promise<Response>} api */
  constructor(api) {
    this.#api = api
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault()
      void this.#ask(() => this.#form.elements['id'].focus())
    })
  }

  /**
   * Asks about a zone that is listed.
   * @param {() => void} back takes the focus back there, once the answer is read
   */
  explainZone({ id, service }, back) {
    const { elements } = this.#form
    elements['id'].value = id
    // Which paths are a service's is the processor's rule. Mostly it is named for its path; else the answer shows.
    elements['path'].value = service === 'default' ? '/' : `/${service}`
    this.#form.scrollIntoView({ block: 'nearest' })
    void this.#ask(back, service)
  }

  async #ask(back, service) {
    this.#asked += 1
    const mine = this.#asked
    const fields = new FormData(this.#form)
    const query = new URLSearchParams({
      method: fields.get('method').trim(),
      path: fields.get('path').trim(),
    })
    if (fields.get('id') !== '') query.set('id', fields.get('id'))
    this.#form.setAttribute('aria-busy', 'true')
    const answer = await this.#answer(`api/explain?${query}`, back, service)
    if (mine !== this.#asked) return
    this.#form.removeAttribute('aria-busy')
    this.#place.replaceChildren(...answer)
    this.#place.querySelector('.verdict')?.focus()
  }

  async #answer(path, back, service) {
    const started = performance.now()
    try {
      const response = await this.#api(path)
      const body = await response.json()
      if (!response.ok) return [failure(body.error ?? `The processor answers ${response.status}.`)]
      if (service !== undefined && body.zone?.service !== service) return [this.#otherService(body, service)]
      return this.#explained(body, performance.now() - started, back)
    } catch {
      return [failure('The processor can not be reached. The question was not answered.')]
    }
  }

  /** The path was a guess, and it is another service's. */
  #otherService({ request, zone }, service) {
    this.#form.elements['path'].select()
    const belongs = zone === null ? 'does not belong to it' : `belongs to ${zone.service}`
    return failure(`Which path of the service ${service} is asked for? ${request.path} ${belongs}.`)
  }

  #explained({ request, decision, steps }, tookMs, back) {
    const forward = decision.result === 'forward'
    const close = element('button', { type: 'button', class: 'close' }, 'Close')
    close.addEventListener('click', () => {
      this.#place.replaceChildren()
      back()
    })
    const ids = request.ids.length === 0 ? 'no id' : `id ${request.ids.join(' and ')}`
    const asked = `${request.method} ${request.path}, ${ids} · answered in ${milliseconds(tookMs)}`
    const verdict = element(
      'div',
      { class: 'verdict', tabindex: '-1', 'data-tone': forward ? 'good' : 'bad' },
      shape(forward ? 'ok' : 'bad'),
      element('div', {}, verdictLine(decision), element('p', { class: 'asked' }, asked)),
      close,
    )
    return [verdict, ...advice(decision), element('ol', { class: 'steps' }, ...steps.map(step))]
  }
}

function verdictLine(decision) {
  if (decision.result === 'refuse') {
    const reason = element('code', {}, decision.reason)
    return element('h3', {}, `Refused with ${decision.status} `, reason)
  }
  const [first, ...others] = decision.authorities
  const more = others.length === 0 ? '' : ` or ${others.join(', ')}, in turn`
  return element('h3', {}, 'Forwarded to ', element('code', {}, first), more)
}

function advice(decision) {
  if (decision.result === 'forward') return []
  const paragraph = (title, text) => element('p', {}, element('strong', {}, title), ` ${text}`)
  return [
    element(
      'div',
      { class: 'advice' },
      paragraph('Why.', decision.cause),
      paragraph('The way out.', decision.wayOut),
    ),
  ]
}

function step({ step: name, ok, text }) {
  return element(
    'li',
    { 'data-tone': ok ? 'good' : 'bad' },
    shape(ok ? 'ok' : 'bad'),
    element(
      'span',
      { class: 'what' },
      STEPS[name] ?? name,
      element('span', { class: 'unseen' }, ok ? ':' : ', failed:'),
    ),
    element('span', { class: 'text' }, text),
  )
}

function failure(text) {
  return element('p', { class: 'notice', 'data-tone': 'bad', role: 'alert' }, shape('bad'), text)
}
