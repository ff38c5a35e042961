import type { Socket } from 'node:net'
import { guarded, type OnBug } from '../guard.ts'

/**
 * Octets in buffers of the whole process: incomplete messages, and answers that their clients do not read. Usually they are a few
 * MB. Messages of several Envoys with 100,000 zones each fit in.
 */
export const BUFFERED_OCTETS_MAX = 256 * 1024 * 1024
/** How often to look. On a Unix socket a client can send some 100 MB in this time. */
const LOOK_MS = 100
/** Pause after closing a connection: its buffers count until the next garbage collection, and must not be blamed on another one. */
const PAUSE_MS = 2000
/** A connection that sent less than this (two messages of the largest size) is not the cause. */
const RECEIVED_OCTETS_MIN = 16 * 1024 * 1024
/** What a connection has sent is counted over the current and the previous window of this length. */
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
 * Closes the connection that has recently sent most, while buffers are too large. The limits on messages and on streams are not
 * enough, because their product is large. An Envoy that is closed by mistake connects again.
 */
export class BufferGuard {
  readonly #seams: BufferGuardSeams
  /** What each connection had sent when the previous and the current window began. */
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

  /** @returns stops it */
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
