// Filters and sorts zones. Pure.

/** The choices of "Show zones". */
export const SHOWN = {
  all: { title: 'All zones', test: () => true },
  hot: { title: 'Hot: routed inside Envoy', test: ({ route }) => route === 'hot' },
  learned: { title: 'Learned: pushed to Envoy', test: ({ route }) => route === 'learned' },
  cold: { title: 'Cold: asks the processor', test: ({ route }) => route === 'cold' },
  stale: { title: 'Stale answers', test: ({ state }) => state === 'stale' },
  unresolved: { title: 'Without a usable address', test: (zone) => isUnresolved(zone) },
  errors: { title: 'With errors', test: ({ errors }) => errors > 0 },
}

/** Worst first. */
const STATES = [
  ...['failed', 'denied', 'nxdomain', 'nodata', 'maintenance', 'stale', 'pinned', 'uncached', 'expired'],
  ...['unknown', 'fresh'],
]
const ROUTES = ['hot', 'learned', 'cold']

/** The table's columns, in order. `first` is the direction that the first press sorts in. */
export const COLUMNS = [
  { key: 'id', title: 'Id', first: 'ascending', value: ({ sortId }) => sortId },
  { key: 'service', title: 'Service', first: 'ascending', value: ({ service }) => service },
  { key: 'name', title: 'Name', first: 'ascending', value: ({ sortName }) => sortName },
  {
    key: 'state',
    title: 'State',
    first: 'ascending',
    value: ({ state, route }) => STATES.indexOf(state) * ROUTES.length + ROUTES.indexOf(route),
  },
  { key: 'addresses', title: 'Addresses', first: 'ascending', value: ({ sortAddress }) => sortAddress },
  { key: 'ttl', title: 'TTL left', first: 'ascending', value: ({ expiresAt }) => expiresAt ?? -1 },
  { key: 'rate', title: 'Req/s', first: 'descending', value: ({ requestsPerSecond }) => requestsPerSecond },
  { key: 'errors', title: 'Errors', first: 'descending', value: ({ errors }) => errors },
]

export function isUnresolved({ state }) {
  return !['fresh', 'pinned', 'maintenance', 'stale', 'expired', 'uncached', 'unknown'].includes(state)
}

/**
 * Adds to a zone what searching and sorting need.
 * @param before the last view of the same zone: usually only the rate has changed, and the rest is copied
 */
export function zoneView(zone, before) {
  const { service, id, name, state, route, addresses } = zone
  const text = `${id} ${service} ${name} ${state} ${route} ${addresses.join(' ')}`.toLowerCase()
  const known = text === before?.text
  zone.key = known ? before.key : `${service}/${id}`
  zone.sortId = known ? before.sortId : naturally(id)
  zone.sortName = known ? before.sortName : naturally(name)
  zone.sortAddress = known ? before.sortAddress : naturally(addresses[0] ?? '')
  zone.text = text
  return zone
}

/** @param {{ search: string, show: keyof typeof SHOWN }} filter a zone must have every word of `search` */
export function filterZones(zones, { search, show }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean)
  const { test } = SHOWN[show]
  return zones.filter((zone) => test(zone) && words.every((word) => zone.text.includes(word)))
}

/** Sorts in place. Equal zones are in the order of id and service, so that they never swap places. */
export function sortZones(zones, { key, direction }) {
  const { value } = COLUMNS.find((column) => column.key === key)
  const sign = direction === 'ascending' ? 1 : -1
  return zones.sort(
    (a, b) =>
      sign * compare(value(a), value(b)) || compare(a.sortId, b.sortId) || compare(a.service, b.service),
  )
}

function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Pads numbers, so that plain comparison puts 9 before 10. */
function naturally(text) {
  return text.replace(/\d+/g, (digits) => digits.padStart(10, '0'))
}
