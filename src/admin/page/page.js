// The operator's page: feeds the stream of events into the parts of the page.

import { byId, setAttribute, setShape, setText, shape } from './dom.js'
import { ExplainBox } from './explain.js'
import { duration, timeOfDay } from './format.js'
import { Happened } from './happened.js'
import { LiveStream } from './live.js'
import { createOverview } from './overview.js'
import { Panels } from './panels.js'
import { RecentRefusals } from './recent-refusals.js'
import { StatusModel } from './status-model.js'
import { api } from './token.js'
import { ZoneTable } from './zone-table.js'

const model = new StatusModel()
const explainBox = new ExplainBox(api)
const table = new ZoneTable(model, (zone) => explainBox.explainZone(zone, () => table.focus(zone)))
const overview = createOverview()
const panels = new Panels()
const refusals = new RecentRefusals()
const happened = new Happened(api)
const FIRST_WORDS = { live: 'Live', connecting: 'Connecting', paused: 'Paused while the tab is hidden' }
let connection = { kind: 'connecting' }
/** Why the page is not live. Null: it is, or connects for the first time. */
let lost = null

/** A filled disc is live, an empty ring is not. */
const liveShape = shape('cold')
byId('live-text').before(liveShape)

const stream = new LiveStream({
  fetch: (signal) => api('api/events', { signal }),
  onEvent(type, data) {
    if (!model.apply(type, data)) return
    document.body.dataset['loaded'] = ''
    table.update(model.zones)
    showStatus()
  },
  onChange(change) {
    connection = change
    if (change.kind === 'lost') lost = change.why
    else if (change.kind !== 'connecting') lost = null
    showConnection()
  },
})
stream.open()

// If this fails, the panel shows the reasons without their texts.
fetch('page/reasons.json')
  .then((response) => response.json())
  .then((reasons) => {
    panels.reasons = reasons
    if (model.status !== null) showStatus()
  })
  .catch(() => undefined)

byId('retry').addEventListener('click', () => stream.retryNow())
addEventListener('keydown', (event) => {
  const typing = event.target.closest?.('input, select, textarea, dialog')
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || typing) return
  event.preventDefault()
  byId('search').focus()
})
setInterval(() => {
  if (document.hidden) return
  showConnection()
  if (connection.kind !== 'live') return
  table.tick()
  void happened.tick()
}, 1000)

function showStatus() {
  const recent = refusals.add(model.status)
  overview.show(model, recent)
  panels.show(model.status, recent)
}

function showConnection() {
  const { text, detail } = connectionText()
  const isLive = lost === null && connection.kind === 'live'
  setAttribute(byId('top'), 'data-tone', lost !== null ? 'bad' : isLive ? 'good' : 'quiet')
  setShape(liveShape, isLive ? 'hot' : 'cold')
  setText(byId('live-text'), text)
  setText(byId('live-detail'), detail)
  byId('retry').hidden = connection.kind !== 'lost'
  document.title = lost === null ? 'Zonegate' : 'Not live · Zonegate'
}

/** Screen readers speak `text` when it changes, so failed tries do not change it. They do not speak `detail`. */
function connectionText() {
  const text = lost === null ? FIRST_WORDS[connection.kind] : `Not live: ${lost}`
  if (connection.kind === 'live') return { text, detail: '' }
  const asOf = model.status === null ? '' : `as of ${timeOfDay(model.status.at)}`
  const next =
    connection.kind === 'lost'
      ? `next try in ${duration(connection.retryAt - performance.now())}`
      : lost === null
        ? ''
        : 'trying'
  return { text, detail: [asOf, next].filter(Boolean).join(', ') }
}
