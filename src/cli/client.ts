import { type IncomingMessage, request } from 'node:http'
import { hostPortOf, wildcardToLoopback } from '../config/host-port.ts'
import { loadOperatorsListen, readHttpToken } from '../config/load.ts'
import { type Arguments, configPath, type Terminal, UsageError } from './command.ts'
import { plain } from './text.ts'

/** Everything but an explanation is answered at once. A processor that is silent for longer hangs, or has no CPU. */
const TIMEOUT_MS = 15_000
/** An explanation may wait for nameservers as long as a request does: `dns.budgetMs`, at most a minute. */
const EXPLAIN_TIMEOUT_MS = 65_000
const HEALTH_TIMEOUT_MS = 2000
/** Enough for the status of 100,000 zones. */
const BODY_LENGTH_MAX = 256 * 1024 * 1024

export interface Reply {
  readonly status: number
  readonly body: string
}

/** Asks a running processor at `--server`, or else at `listen.http` of the configuration. */
export class ProcessorClient {
  readonly #url: URL
  readonly #token: string | null
  readonly #note: (fault: string) => void
  /** Errors of the local configuration that the user has not been told yet. */
  #faults: readonly string[]

  constructor(url: URL, token: string | null, faults: readonly string[], note: (fault: string) => void) {
    this.#url = url
    this.#token = token
    this.#faults = faults
    this.#note = note
  }

  static of(args: Arguments, terminal: Terminal): ProcessorClient {
    const { listen, faults } = loadOperatorsListen(configPath(args, terminal), terminal.environment)
    const text = args.text('server')
    const { host, port } = hostPortOf(listen.http)
    const url = URL.parse(text ?? `http://${bracketed(wildcardToLoopback(host))}:${port}`)
    if (url?.protocol !== 'http:')
      throw new UsageError(`--server: expected a URL like http://127.0.0.1:9003, got "${text}"`)
    const note = (fault: string) => void terminal.stderr.write(`zonegate: note: ${plain(fault)}\n`)
    return new ProcessorClient(url, readHttpToken({ listen }), faults, note)
  }

  /**
   * Gets JSON from a path.
   * @param sent the body, sent as JSON
   * @param toldIn finds the configuration errors that the answer already names
   * @throws Error that tells the user what to do
   */
  async json<Value>(
    path: string,
    method: 'GET' | 'POST' = 'GET',
    sent?: unknown,
    toldIn: (answer: Value) => readonly string[] = () => [],
  ): Promise<Value> {
    let told: readonly string[] = []
    try {
      const timeoutMs = path.startsWith('/api/explain') ? EXPLAIN_TIMEOUT_MS : TIMEOUT_MS
      const { status, body } = await this.#ask(path, method, timeoutMs, sent)
      if (status !== 200) throw new Error(this.#refusal(status, body))
      const answer: Value = JSON.parse(body)
      told = toldIn(answer)
      return answer
    } finally {
      this.#noteFaults(told)
    }
  }

  health(): Promise<Reply> {
    this.#noteFaults()
    return this.#ask('/readyz', 'GET', HEALTH_TIMEOUT_MS)
  }

  /** Errors of the configuration are only a note: the processor runs with the configuration that it read before. */
  #noteFaults(told: readonly string[] = []): void {
    for (const fault of this.#faults) if (!told.includes(fault)) this.#note(fault)
    this.#faults = []
  }

  #refusal(status: number, body: string): string {
    if (status === 401)
      return `${this.#url.origin} requires a token: set listen.httpToken or listen.httpTokenFile to the processor's`
    let why = `${status}`
    try {
      why = String(JSON.parse(body).error ?? why)
    } catch {}
    return `${this.#url.origin} answers: ${why}`
  }

  #ask(path: string, method: string, timeoutMs: number, sent?: unknown): Promise<Reply> {
    const url = new URL(path, this.#url)
    const headers = {
      ...(this.#token !== null && { authorization: `Bearer ${this.#token}` }),
      ...(sent !== undefined && { 'content-type': 'application/json' }),
    }
    return new Promise((resolve, reject) => {
      const call = request(url, { method, headers, timeout: timeoutMs, agent: false }, (response) => {
        readBody(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject)
      })
      call.on('timeout', () => {
        const silent = `the processor on ${url.origin} gave no answer within ${timeoutMs / 1000} s`
        reject(new Error(`${silent}: it hangs, or has no CPU. Keep its log, and restart it`))
        call.destroy()
      })
      call.on('error', (error: NodeJS.ErrnoException) =>
        reject(
          new Error(
            `no processor answers on ${url.origin} (${error.code ?? error.message}): read its log and start it, or use --config or --server if it runs with another configuration`,
          ),
        ),
      )
      call.end(sent === undefined ? undefined : JSON.stringify(sent))
    })
  }
}

async function readBody(response: IncomingMessage): Promise<string> {
  response.setEncoding('utf8')
  let body = ''
  for await (const text of response) {
    body += text
    if (body.length > BODY_LENGTH_MAX) throw new Error('the answer is too long; is this a processor?')
  }
  return body
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}
