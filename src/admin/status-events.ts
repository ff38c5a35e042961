import type { ServerResponse } from 'node:http'
import { guarded, type OnBug } from '../guard.ts'
import type { Status, ZoneStatus } from '../status/status.ts'

/** Pages that may look at once. */
const CLIENTS_MAX = 16
const INTERVAL_MS = 1000
/** A client that is so far behind doesn't read: it is dropped, and comes back when it likes. */
const BACKLOG_OCTETS_MAX = 8 * 1024 * 1024
/** How soon a browser comes back after a lost connection. */
const RETRY_MS = 2000

/** An `update` event: what has become another since the event before. Zones carry no `history`. */
export interface StatusUpdate extends Omit<Status, 'zones'> {
  readonly zones: {
    /** New ones, and changed ones whole. */
    readonly changed: readonly ZoneStatus[]
    /** `service/id`. */
    readonly removed: readonly string[]
  }
}

/**
 * The status as server-sent events: a `snapshot` (a whole Status) to each new client, then every second an `update` with
 * the zones that have changed. Each event is serialised once for all clients; without clients nothing is read at all.
 */
export class StatusEvents {
  readonly #read: (history: boolean) => Status
  readonly #onBug: OnBug
  readonly #clients = new Set<ServerResponse>()
  /** Zones as last told, by key: their JSON. */
  #told = new Map<string, string>()
  #timer: NodeJS.Timeout | undefined

  /**
   * @param read with or without the zones' history
   * @param onBug told of an exception: the update that it happened in is left out
   */
  constructor(read: (history: boolean) => Status, onBug: OnBug) {
    this.#read = read
    this.#onBug = onBug
  }

  get clients(): number {
    return this.#clients.size
  }

  /** False: there are too many clients already. The response's head is not sent then. */
  add(response: ServerResponse, headers: Readonly<Record<string, string>>): boolean {
    if (this.#clients.size >= CLIENTS_MAX) return false
    response.writeHead(200, { ...headers, 'content-type': 'text/event-stream' })
    // All are at the same point: who comes now must know the zones that the next update compares with.
    this.#tick()
    this.#clients.add(response)
    response.on('close', () => this.#remove(response))
    response.on('error', () => this.#remove(response))
    response.write(`retry: ${RETRY_MS}\n\n${event('snapshot', JSON.stringify(this.#read(true)))}`)
    this.#timer ??= setInterval(
      guarded(this.#onBug, () => this.#tick()),
      INTERVAL_MS,
    ).unref()
    return true
  }

  close(): void {
    for (const client of this.#clients) client.end()
    this.#clients.clear()
    this.#stop()
  }

  #tick(): void {
    const { zones, ...rest } = this.#read(false)
    const before = this.#told
    this.#told = new Map()
    const changed: string[] = []
    for (const zone of zones) {
      const key = `${zone.service}/${zone.id}`
      const json = JSON.stringify(zone)
      this.#told.set(key, json)
      if (before.get(key) !== json) changed.push(json)
      before.delete(key)
    }
    if (this.#clients.size === 0) return
    const removed = JSON.stringify([...before.keys()])
    const json = `${JSON.stringify(rest).slice(0, -1)},"zones":{"changed":[${changed.join(',')}],"removed":${removed}}}`
    const octets = Buffer.from(event('update', json))
    for (const client of this.#clients) {
      if (client.writableLength > BACKLOG_OCTETS_MAX) client.destroy()
      else client.write(octets)
    }
  }

  #remove(client: ServerResponse): void {
    this.#clients.delete(client)
    if (this.#clients.size === 0) this.#stop()
  }

  #stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#told = new Map()
  }
}

/** One line of data: JSON has no line breaks (HTML, section 9.2). */
function event(name: string, json: string): string {
  return `event: ${name}\ndata: ${json}\n\n`
}
