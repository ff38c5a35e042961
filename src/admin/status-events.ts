import type { ServerResponse } from 'node:http'
import { guarded, type OnBug } from '../guard.ts'
import type { Status, StatusReading, ZoneStatus } from '../status/status.ts'
import type { Turns } from '../turns.ts'

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

/** Reads a whole status as JSON, in turns with other work. */
export async function statusJson({ rest, zones }: StatusReading, turns: Turns): Promise<string> {
  const all: string[] = []
  await turns.each(zones, (zone) => all.push(JSON.stringify(zone)))
  return jsonOf(rest, `[${all.join(',')}]`)
}

function jsonOf(rest: StatusReading['rest'], zones: string): string {
  return `${JSON.stringify(rest).slice(0, -1)},"zones":${zones}}`
}

/**
 * The status as server-sent events. Each new client gets a `snapshot`, which is a whole Status, and then every second an
 * `update` with the zones that have changed. An update is serialised once for all clients. Without clients nothing is read.
 * The zones are read in turns with other work: with very many, an update takes longer than a second.
 */
export class StatusEvents {
  readonly #read: (history: boolean) => StatusReading
  readonly #turns: Turns
  readonly #onBug: OnBug
  readonly #clients = new Set<ServerResponse>()
  /** Clients that wait for their snapshot. */
  readonly #joining = new Set<ServerResponse>()
  /** The JSON of each zone in the last update, by key. */
  #sent = new Map<string, string>()
  #isReading = false
  #timer: NodeJS.Timeout | undefined

  /**
   * @param read the status with or without the zones' history
   * @param onBug called with an exception; that second then has no update
   */
  constructor(read: (history: boolean) => StatusReading, turns: Turns, onBug: OnBug) {
    this.#read = read
    this.#turns = turns
    this.#onBug = onBug
  }

  get clients(): number {
    return this.#clients.size + this.#joining.size
  }

  /** @returns false if there are too many clients; the response is then untouched */
  add(response: ServerResponse, headers: Readonly<Record<string, string>>): boolean {
    if (this.clients >= CLIENTS_MAX) return false
    response.writeHead(200, { ...headers, 'content-type': 'text/event-stream' })
    response.write(`retry: ${RETRY_MS}\n\n`)
    this.#joining.add(response)
    response.on('close', () => this.#remove(response))
    response.on('error', () => this.#remove(response))
    this.#tick()
    this.#timer ??= setInterval(
      guarded(this.#onBug, () => this.#tick()),
      INTERVAL_MS,
    ).unref()
    return true
  }

  close(): void {
    for (const client of [...this.#clients, ...this.#joining]) client.end()
    this.#clients.clear()
    this.#joining.clear()
    this.#stop()
  }

  #tick(): void {
    if (this.#isReading) return
    this.#isReading = true
    this.#update().then(
      () => {
        this.#isReading = false
        if (this.#joining.size > 0) this.#tick()
      },
      (error: unknown) => {
        this.#isReading = false
        this.#onBug(error)
      },
    )
  }

  async #update(): Promise<void> {
    // Those who join get this same reading, because the next update says only what has changed since.
    const joining = [...this.#joining]
    const { rest, zones } = this.#read(joining.length > 0)
    const before = this.#sent
    const sent = new Map<string, string>()
    const changed: string[] = []
    const whole: string[] = []
    await this.#turns.each(zones, (zone) => {
      const { history: _, ...shown } = zone
      const key = `${zone.service}/${zone.id}`
      const json = JSON.stringify(shown)
      sent.set(key, json)
      if (before.get(key) !== json) changed.push(json)
      if (joining.length > 0) whole.push(JSON.stringify(zone))
    })
    if (this.clients === 0) return
    this.#sent = sent
    const removed = JSON.stringify([...before.keys()].filter((key) => !sent.has(key)))
    const update = event('update', jsonOf(rest, `{"changed":[${changed.join(',')}],"removed":${removed}}`))
    this.#send(this.#clients, update)
    const joined = joining.filter((client) => this.#joining.delete(client))
    if (joined.length > 0) this.#send(joined, event('snapshot', jsonOf(rest, `[${whole.join(',')}]`)))
    for (const client of joined) this.#clients.add(client)
  }

  #send(clients: Iterable<ServerResponse>, text: string): void {
    const octets = Buffer.from(text)
    for (const client of clients) {
      if (client.writableLength > BACKLOG_OCTETS_MAX) client.destroy()
      else client.write(octets)
    }
  }

  #remove(client: ServerResponse): void {
    this.#clients.delete(client)
    this.#joining.delete(client)
    if (this.clients === 0) this.#stop()
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
