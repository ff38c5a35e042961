// The processor's status, from a snapshot event and the updates after it.

import { zoneView } from './zone-list.js'

export class StatusModel {
  /** The last status without its zones; null before the first snapshot. */
  status = null
  /** zoneViews; an unchanged zone is the same object as before. */
  zones = []
  /** Requests per second of all zones, oldest first. */
  history = []
  #byKey = new Map()
  /** From performance.now() to the clock of the status. */
  #offset = 0

  /** Milliseconds since 1970 on the processor's clock. */
  now() {
    return performance.now() + this.#offset
  }

  /** The TTL of a full bar, in seconds. */
  get ttlSecondsMax() {
    return this.status?.dns.ttlSecondsMax ?? 60
  }

  /** @returns false if the event is of another type */
  apply(type, data) {
    if (type !== 'snapshot' && type !== 'update') return false
    const { zones, ...status } = JSON.parse(data)
    const { points, slot } = status.history
    const slots = type === 'snapshot' ? points : slot - this.status.history.slot
    if (type === 'snapshot') this.#byKey = new Map(zones.map((zone) => [keyOf(zone), zoneView(zone)]))
    else this.#update(zones, points, slots)
    this.status = status
    this.zones = [...this.#byKey.values()]
    this.#offset = status.at - performance.now()
    if (slots > 0) this.history = totalOf(this.zones, points)
    return true
  }

  /** Updates have no history: each new slot adds the current rate as a point. */
  #update({ changed, removed }, points, slots) {
    for (const key of removed) this.#byKey.delete(key)
    for (const zone of changed) {
      const key = keyOf(zone)
      const before = this.#byKey.get(key)
      zone.history = before?.history ?? new Array(points).fill(0)
      this.#byKey.set(key, zoneView(zone, before))
    }
    if (slots <= 0) return
    const fresh = new Set(changed)
    for (const [key, zone] of this.#byKey) {
      const { history, requestsPerSecond } = zone
      if (requestsPerSecond === 0 && history.every((point) => point === 0)) continue
      const next = history.slice(slots)
      while (next.length < points) next.push(requestsPerSecond)
      if (fresh.has(zone)) zone.history = next
      else this.#byKey.set(key, { ...zone, history: next })
    }
  }
}

function keyOf({ service, id }) {
  return `${service}/${id}`
}

function totalOf(zones, points) {
  const total = new Array(points).fill(0)
  for (const { history } of zones) for (let at = 0; at < points; at++) total[at] += history[at] ?? 0
  return total
}
