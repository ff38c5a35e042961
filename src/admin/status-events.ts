import type { ServerResponse } from 'node:http'
import { guarded, type OnBug } from '../guard.ts'
import type { Status, ZoneStatus } from '../status/status.ts'

/** Open pages at once. */
const CLIENTS_MAX = 16
const INTERVAL_MS = 1000
/** A client that is this far behind does not read. It is disconnected, and may connect again. */
const BACKLOG_OCTETS_MAX = 8 * 1024 * 1024
/** A browser waits this long before it connects again. */
const RETRY_MS = 2000

/** An `update` event: what has changed since the event before. Zones have no `history`. */
export interface StatusUpdate extends Omit<Status, 'zones'> {
  readonly zones: {
    /** New and changed zones, each whole. */
    readonly changed: readonly ZoneStatus[]
    /** `service/id`. */
    readonly removed: readonly string[]
  }
}

/**
 * The status as server-sent events. Each new client gets a `snapshot`, which is a whole Status, and then every second an
 * `update` with the zones that have changed. An update is serialised once for all clients. Without clients nothing is read.
 */
export class StatusEvents {
  readonly #read: (history: boolean) => Status
  readonly #onBug: OnBug
  readonly #clients = new Set<ServerResponse>()
  /** The JSON of each zone in the last update, by key. */
  #sent = new Map<string, string>()
  #timer: NodeJS.Timeout | undefined

  /**
   * @param read the status with or without the zones' history
   * @param onBug called with an exception; that second then has no update
   */
  constructor(read: (history: boolean) => Status, onBug: OnBug) {
    this.#read = read
    this.#onBug = onBug
  }

  get clients(): number {
    return this.#clients.size
  }

  /** @returns false if there are too many clients; the response is then untouched */
  add(response: ServerResponse, headers: Readonly<Record<string, string>>): boolean {
    if (this.#clients.size >= CLIENTS_MAX) return false
    response.writeHead(200, { ...headers, 'content-type': 'text/event-stream' })
    // The next update compares with this moment for all clients, so the new one must start here, too.
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
    const before = this.#sent
    this.#sent = new Map()
    const changed: string[] = []
    for (const zone of zones) {
      const key = `${zone.service}/${zone.id}`
      const json = JSON.stringify(zone)
      this.#sent.set(key, json)
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
    this.#sent = new Map()
  }
}

/** JSON has no line breaks, so one `data` line holds it (HTML, section 9.2). */
function event(name: string, json: string): string {
  return `event: ${name}\ndata: ${json}\n\n`
}
