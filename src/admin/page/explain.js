// The explain box: what the processor would do with a request, step by step.

import { byId, element, shape } from './dom.js'
import { counted, milliseconds } from './format.js'

/** The visible name of each step. */
const STEPS = {
  rule: 'Rule',
  method: 'Method',
  body: 'Body',
  source: 'Source',
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

/** The fields that a curl command replaces. */
const IN_CURL = ['method', 'path', 'host', 'headers']

export class ExplainBox {
  #api
  #form = byId('explain')
  #place = byId('explained')
  /** Counts questions, so that the answer to an older one is not shown. */
  #asked = 0

  /** @param {(path: string, options?: RequestInit) => Promise<Response>} api */
  constructor(api) {
    this.#api = api
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault()
      void this.#ask(this.#description(), () => this.#form.elements['id'].focus())
    })
    this.#form.elements['curl'].addEventListener('input', () => this.#leaveToCurl())
  }

  /**
   * Explains a request to a zone of the table.
   * @param {() => void} back moves the focus back to the zone when the answer is closed
   */
  explainZone({ id, service }, back) {
    this.#form.reset()
    this.#leaveToCurl()
    this.#form.elements['id'].value = id
    this.#form.scrollIntoView({ block: 'nearest' })
    void this.#ask({ zone: { service, id } }, back)
  }

  /** Disables the fields that a curl command replaces. */
  #leaveToCurl() {
    const { elements } = this.#form
    for (const name of IN_CURL) elements[name].disabled = elements['curl'].value.trim() !== ''
  }

  /** The form's content, as /api/explain takes it. */
  #description() {
    const { elements } = this.#form
    const text = (name) => elements[name].value.trim()
    const { value: body } = elements['body']
    const parts = {
      method: text('method'),
      path: text('path'),
      host: text('host'),
      headers: text('headers')
        .split('\n')
        .filter((line) => line.trim() !== ''),
    }
    return {
      ...(text('curl') === '' ? parts : { curl: text('curl') }),
      ids: elements['id'].value === '' ? [] : [elements['id'].value],
      ...(body !== '' && { body }),
    }
  }

  async #ask(description, back) {
    this.#asked += 1
    const mine = this.#asked
    this.#form.setAttribute('aria-busy', 'true')
    const answer = await this.#answer(description, back)
    if (mine !== this.#asked) return
    this.#form.removeAttribute('aria-busy')
    this.#place.replaceChildren(...answer)
    this.#place.querySelector('.verdict')?.focus()
  }

  async #answer(description, back) {
    const started = performance.now()
    try {
      const response = await this.#api('api/explain', { method: 'POST', body: JSON.stringify(description) })
      const answer = await response.json()
      if (!response.ok) return [failure(answer.error ?? `The processor answered ${response.status}.`)]
      if (description.zone !== undefined) this.#show(answer.request)
      return this.#explained(answer, performance.now() - started, back)
    } catch {
      return [failure('The processor cannot be reached.')]
    }
  }

  /** Fills in the request that the processor chose for a zone, so that the reader can change it and ask again. */
  #show({ method, authority, path }) {
    const { elements } = this.#form
    for (const [name, value] of Object.entries({ method, path, host: authority }))
      elements[name].value = value
  }

  #explained({ request, decision, steps }, tookMs, back) {
    const forward = decision.result === 'forward'
    const close = element('button', { type: 'button' }, 'Close')
    close.addEventListener('click', () => {
      this.#place.replaceChildren()
      back()
    })
    const { method, authority, path, ids, bodyOctets } = request
    const parts = [
      `${method} ${authority}${path}`,
      ...(ids.length === 0 ? [] : [`id ${ids.join(' and ')}`]),
      ...(bodyOctets === 0 ? [] : [`a body of ${counted(bodyOctets, 'octet')}`]),
    ]
    const asked = `${parts.join(', ')} · answered in ${milliseconds(tookMs)}`
    const verdict = element(
      'div',
      { class: 'verdict', tabindex: '-1', 'data-tone': forward ? 'good' : 'bad' },
      close,
      verdictLine(decision),
      element('small', {}, asked),
      ...advice(decision),
    )
    return [verdict, element('ol', { class: 'steps' }, ...steps.map(step))]
  }
}

function verdictLine(decision) {
  if (decision.result === 'refuse') {
    const reason = element('code', {}, decision.reason)
    return element('h3', {}, shape('bad'), ` Refused with ${decision.status} `, reason)
  }
  const [first, ...others] = decision.authorities
  const more = others.length === 0 ? '' : ` or ${others.join(', ')}, in turn`
  return element('h3', {}, shape('ok'), ' Forwarded to ', element('code', {}, first), more)
}

function advice(decision) {
  if (decision.result === 'forward') return []
  const paragraph = (title, text) => element('p', {}, element('strong', {}, title), ` ${text}`)
  return [paragraph('Why.', decision.cause), paragraph('What to do.', decision.wayOut)]
}

function step({ step: name, ok, text }) {
  return element(
    'li',
    { 'data-tone': ok ? 'good' : 'bad' },
    shape(ok ? 'ok' : 'bad'),
    element('small', {}, STEPS[name] ?? name, element('span', { class: 'unseen' }, ok ? ':' : ', failed:')),
    element('span', {}, text),
  )
}

function failure(text) {
  return element('p', { class: 'notice', 'data-tone': 'bad', role: 'alert' }, shape('bad'), text)
}
