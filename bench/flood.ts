import { connect, type Socket } from 'node:net'

/**
 * A client that sends an exact number of requests and reads each answer. wrk stops by the clock, aborts requests that are
 * under way, and does not report the reason of a refusal.
 */

export interface FloodOptions {
  readonly port: number
  readonly connections: number
  readonly requests: number
  /** The octets of the request. */
  readonly request: string
}

export interface Flood {
  /** How often each outcome came: status and reason ("502 name_not_found"), or the error. */
  readonly outcomes: ReadonlyMap<string, number>
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
}

const answerWithinMs = 10_000

/** Sends the requests over keep-alive connections to 127.0.0.1, and opens a new one when Envoy closes one. */
export async function flood({ port, connections, requests, request }: FloodOptions): Promise<Flood> {
  const outcomes = new Map<string, number>()
  const tookMs = new Float64Array(requests)
  const bytes = Buffer.from(request, 'latin1')
  let sent = 0
  let answered = 0
  const worker = async () => {
    const line = new Line(port)
    while (sent < requests) {
      sent += 1
      const startMs = performance.now()
      const outcome = await line.ask(bytes)
      tookMs[answered] = performance.now() - startMs
      answered += 1
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
    }
    line.close()
  }
  const startMs = performance.now()
  await Promise.all(Array.from({ length: connections }, worker))
  const seconds = (performance.now() - startMs) / 1000
  tookMs.sort()
  const percentile = (share: number) => tookMs[Math.floor((requests - 1) * share)] ?? Number.NaN
  return { outcomes, seconds, p50Ms: percentile(0.5), p99Ms: percentile(0.99) }
}

/** One connection with at most one request under way. */
class Line {
  readonly #port: number
  #socket: Socket | undefined
  #received = ''
  #answer: ((outcome: string) => void) | undefined

  constructor(port: number) {
    this.#port = port
  }

  ask(request: Buffer): Promise<string> {
    return new Promise((resolve) => {
      this.#answer = resolve
      this.#socket ??= this.#open()
      this.#socket.write(request)
    })
  }

  close(): void {
    this.#socket?.destroy()
  }

  #open(): Socket {
    const socket = connect({ port: this.#port, host: '127.0.0.1', noDelay: true })
    socket.setEncoding('latin1')
    socket.setTimeout(answerWithinMs, () => socket.destroy(new Error('no answer in time')))
    const gone = (why: string) => {
      if (this.#socket !== socket) return
      this.#socket = undefined
      this.#received = ''
      this.#settle(why)
    }
    socket.on('error', (error: NodeJS.ErrnoException) => gone(error.code ?? error.message))
    socket.on('close', () => gone('connection closed'))
    socket.on('data', (text: string) => {
      this.#received += text
      const outcome = outcomeOf(this.#received)
      if (outcome === undefined) return
      this.#received = ''
      if (outcome.closes) {
        this.#socket = undefined
        socket.destroy()
      }
      this.#settle(outcome.text)
    })
    return socket
  }

  #settle(outcome: string): void {
    const answer = this.#answer
    this.#answer = undefined
    answer?.(outcome)
  }
}

/** The outcome of a complete answer; undefined: more has to come. Every answer here has a `content-length`. */
export function outcomeOf(received: string): { text: string; closes: boolean } | undefined {
  const end = received.indexOf('\r\n\r\n')
  if (end === -1) return undefined
  const head = received.slice(0, end).toLowerCase()
  const length = Number(/\r\ncontent-length: (\d+)/.exec(head)?.[1] ?? 0)
  if (received.length < end + 4 + length) return undefined
  const status = head.slice('http/1.1 '.length, 'http/1.1 '.length + 3)
  const reason = /\r\nx-zonegate-reason: (\w+)/.exec(head)?.[1]
  return {
    text: reason === undefined ? status : `${status} ${reason}`,
    closes: head.includes('\r\nconnection: close'),
  }
}
