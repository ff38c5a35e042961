/**
 * One exchange with one nameserver over UDP or TCP: octets out, the first response that belongs to the query in.
 * Whatever else arrives is ignored while the timer runs on (RFC 5452 §9.1), so that nobody who can't see the query
 * can answer it, end it, or make it longer.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { connect, type Socket as TcpSocket } from 'node:net'
import { isResponseTo } from './query.ts'
import type { Timers } from './timers.ts'

export interface NameserverAddress {
  /** IPv4, or IPv6 with an optional scope id. */
  readonly host: string
  readonly port: number
  /** `address:port`, `[address]:port`. */
  readonly text: string
}

export type ExchangeOutcome =
  | { readonly kind: 'response'; readonly octets: Buffer }
  /** `unreachable`: ICMP, a refused or broken connection, no socket to be had. */
  | { readonly kind: 'timeout' | 'unreachable' | 'aborted' }

export interface ExchangeOptions {
  readonly nameserver: NameserverAddress
  readonly query: Buffer
  readonly timeoutMs: number
  readonly signal: AbortSignal
  readonly timers: Timers
}

/** RFC 7766 §8: two octets of length before each message. */
const FRAME_HEAD_OCTETS = 2

/** Waits for one outcome, whichever comes first; `close` runs once, then nothing of the exchange is left. */
function exchange(
  { timeoutMs, signal, timers }: ExchangeOptions,
  start: (settle: (outcome: ExchangeOutcome) => void) => () => void,
): Promise<ExchangeOutcome> {
  if (signal.aborted) return Promise.resolve({ kind: 'aborted' })
  return new Promise((resolve) => {
    let close: (() => void) | null = null
    let settled = false
    const settle = (outcome: ExchangeOutcome): void => {
      if (settled) return
      settled = true
      timer.cancel()
      signal.removeEventListener('abort', onAbort)
      close?.()
      resolve(outcome)
    }
    const onAbort = (): void => settle({ kind: 'aborted' })
    const timer = timers.start(() => settle({ kind: 'timeout' }), timeoutMs)
    signal.addEventListener('abort', onAbort)
    close = start(settle)
    if (settled) close()
  })
}

/** A literal address needs no look-up: the default one would go through a thread of libuv's pool. */
function literalLookup(
  host: string,
  _options: unknown,
  callback: (error: null, address: string, family: number) => void,
): void {
  callback(null, host, host.includes(':') ? 6 : 4)
}

/**
 * UDP from a socket of the exchange's own: a port nobody can guess, and connected, so that the kernel drops what
 * comes from another address and reports ICMP errors.
 */
export function exchangeOverUdp(options: ExchangeOptions): Promise<ExchangeOutcome> {
  return exchange(options, (settle) => {
    const { nameserver, query } = options
    const socket: UdpSocket = createSocket({
      type: nameserver.host.includes(':') ? 'udp6' : 'udp4',
      lookup: literalLookup,
    })
    let open = true
    socket.on('error', () => settle({ kind: 'unreachable' }))
    socket.on('message', (octets) => {
      if (isResponseTo(query, octets)) settle({ kind: 'response', octets })
    })
    socket.connect(nameserver.port, nameserver.host, () => {
      if (open) socket.send(query)
    })
    return () => {
      open = false
      socket.close()
    }
  })
}

export function exchangeOverTcp(options: ExchangeOptions): Promise<ExchangeOutcome> {
  return exchange(options, (settle) => {
    const { nameserver, query } = options
    const socket: TcpSocket = connect({ host: nameserver.host, port: nameserver.port, lookup: literalLookup })
    const frames = new FrameReader((octets) => {
      if (isResponseTo(query, octets)) settle({ kind: 'response', octets })
    })
    socket.setNoDelay(true)
    socket.on('error', () => settle({ kind: 'unreachable' }))
    socket.on('close', () => settle({ kind: 'unreachable' }))
    socket.on('data', (octets) => frames.push(octets))
    const frame = Buffer.allocUnsafe(FRAME_HEAD_OCTETS + query.length)
    frame.writeUInt16BE(query.length, 0)
    query.copy(frame, FRAME_HEAD_OCTETS)
    socket.write(frame)
    return () => socket.destroy()
  })
}

/** Cuts a TCP stream into messages. Holds one frame at most, 64 KiB, and no more than has arrived of it. */
class FrameReader {
  readonly #onMessage: (octets: Buffer) => void
  #pending: Buffer[] = []
  #pendingOctets = 0

  constructor(onMessage: (octets: Buffer) => void) {
    this.#onMessage = onMessage
  }

  push(octets: Buffer): void {
    this.#pending.push(octets)
    this.#pendingOctets += octets.length
    for (;;) {
      const needed = this.#frameOctets()
      if (needed === null || this.#pendingOctets < needed) return
      const joined = Buffer.concat(this.#pending, this.#pendingOctets)
      this.#pending = joined.length === needed ? [] : [joined.subarray(needed)]
      this.#pendingOctets = joined.length - needed
      this.#onMessage(joined.subarray(FRAME_HEAD_OCTETS, needed))
    }
  }

  #frameOctets(): number | null {
    const first = this.#pending[0]
    if (first === undefined || this.#pendingOctets < FRAME_HEAD_OCTETS) return null
    if (first.length >= FRAME_HEAD_OCTETS) return FRAME_HEAD_OCTETS + first.readUInt16BE(0)
    this.#pending = [Buffer.concat(this.#pending, this.#pendingOctets)]
    return this.#frameOctets()
  }
}
