import type { Socket } from 'node:net'
import { guarded, type OnBug } from '../guard.ts'

/**
 * Octets in buffers of the whole process: messages that have not come whole, answers that nobody reads. In ordinary work
 * they are a few MB; the messages of 100,000 zones from several Envoys at once fit.
 */
export const BUFFERED_OCTETS_MAX = 256 * 1024 * 1024
/** A client on a socket sends some 100 MB in so long. */
const LOOK_MS = 100
/** What a connection held goes at the next collection: the next one is not blamed for it. */
const PAUSE_MS = 2000
/**
 * Who has sent less is not the cause: what was freed still counts until V8 collects it. One message of the largest size.
 */
const RECEIVED_OCTETS_MIN = 16 * 1024 * 1024
/** Who sent most is told by what came since the last but one of these. */
const WINDOW_MS = 5000

export interface BufferGuardSeams {
  /** Monotonic, milliseconds. */
  readonly now: () => number
  /** Octets in buffers now. */
  readonly buffered: () => number
  readonly onClosed: (fields: { readonly buffered: number; readonly received: number }) => void
  readonly onBug: OnBug
}

type Peer = Pick<Socket, 'bytesRead' | 'destroy'>

/**
 * Closes the connection that has sent most of late, while buffers are over their bound: no limit on messages and streams
 * bounds their product. An Envoy that is hit by mistake connects again.
 */
export class BufferGuard {
  readonly #seams: BufferGuardSeams
  /** What each connection had sent at the last two turns of the window. */
  readonly #peers = new Map<Peer, [number, number]>()
  #turnedAt = 0
  #quietUntil = 0

  constructor(seams: BufferGuardSeams) {
    this.#seams = seams
  }

  add(peer: Peer): void {
    this.#peers.set(peer, [0, 0])
  }

  remove(peer: Peer): void {
    this.#peers.delete(peer)
  }

  /** @returns ends it */
  start(): () => void {
    const look = guarded(this.#seams.onBug, () => this.look())
    const timer = setInterval(look, LOOK_MS).unref()
    return () => clearInterval(timer)
  }

  look(): void {
    const now = this.#seams.now()
    if (now - this.#turnedAt >= WINDOW_MS) {
      this.#turnedAt = now
      for (const [peer, [, last]] of this.#peers) this.#peers.set(peer, [last, peer.bytesRead])
    }
    if (now < this.#quietUntil) return
    const buffered = this.#seams.buffered()
    if (buffered <= BUFFERED_OCTETS_MAX) return
    let most: { peer: Peer; received: number } | undefined
    for (const [peer, [since]] of this.#peers) {
      const received = peer.bytesRead - since
      if (most === undefined || received > most.received) most = { peer, received }
    }
    if (most === undefined || most.received < RECEIVED_OCTETS_MIN) return
    this.#quietUntil = now + PAUSE_MS
    this.#peers.delete(most.peer)
    most.peer.destroy()
    this.#seams.onClosed({ buffered, received: most.received })
  }
}
