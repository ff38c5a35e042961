import type { RefusedEvent } from '../history/event.ts'
import type { HistoryPage } from '../history/read-history.ts'
import { type ExplainedThen, endedBy, isPathThen } from '../status/explain-then.ts'
import { type DescribedRequest, describedRequest, descriptionJson } from '../status/request-description.ts'
import { ProcessorClient } from './client.ts'
import { type Arguments, type Terminal, UsageError } from './command.ts'
import { localTime, momentOf } from './moment.ts'
import { readLines } from './read-lines.ts'
import { json, type Paint, paintFor, plain } from './text.ts'

/** A line of Envoy's access log, without empty fields. */
export interface LoggedLine {
  readonly time?: string
  readonly request_id?: string
  readonly method?: string
  readonly host?: string
  readonly uri?: string
  readonly key?: string
  readonly zone?: string
  readonly path?: string
  readonly address?: string
  readonly status?: number
  readonly reason?: string
  readonly details?: string
  readonly duration_ms?: number
}

/** An earlier request and its explanation. */
export interface LoggedRequest {
  readonly line: LoggedLine
  readonly then: ExplainedThen
}

/** Characters. No request id is longer. */
const REQUEST_ID_LENGTH_MAX = 128
const HISTORY_LIMIT = 10_000

/** `explain --at TIME`. @returns 0 if the request would have been forwarded */
export async function explainMoment(
  request: DescribedRequest,
  args: Arguments,
  terminal: Terminal,
): Promise<number> {
  if (args.flag('offline'))
    throw new UsageError('--at: only a running processor knows the past, so leave out --offline')
  const at = momentOf('at', args.text('at') ?? '', Date.now())
  if (at > Date.now()) throw new UsageError('--at: expected a moment in the past')
  const then = await ask(ProcessorClient.of(args, terminal), request, at)
  terminal.stdout.write(args.flag('json') ? json(then) : thenText(then, paintFor(terminal)))
  return then.decision.result === 'forward' ? 0 : 1
}

/** `explain --request-id ID`. @returns 0 if the request was forwarded */
export async function explainLogged(args: Arguments, terminal: Terminal): Promise<number> {
  const id = (args.text('request-id') ?? '').slice(0, REQUEST_ID_LENGTH_MAX)
  const file = args.text('log')
  const client = ProcessorClient.of(args, terminal)
  const line = file === undefined ? await refusalOf(id, client) : await lineOf(id, file)
  if (line === null) {
    const where =
      file === undefined
        ? 'among the refusals in the history; use --log FILE to read an access log'
        : `in "${file}"`
    throw new Error(`there is no request "${plain(id)}" ${where}`)
  }
  const startedAt = Date.parse(line.time ?? '')
  if (Number.isNaN(startedAt)) throw new Error(`the log line of "${plain(id)}" has no time`)
  // The processor decides a cold request after it has asked DNS, near the end of the request.
  const at = startedAt + (line.path === 'hot' ? 0 : (line.duration_ms ?? 0))
  const then = endedBy(await ask(client, requestIn(line), at, line.path), line)
  const found: LoggedRequest = { line, then }
  terminal.stdout.write(args.flag('json') ? json(found) : loggedText(found, paintFor(terminal)))
  return line.reason === undefined ? 0 : 1
}

/** @param path which path the request took: the zone may have been learned or forgotten during the request */
function ask(
  client: ProcessorClient,
  request: DescribedRequest,
  at: number,
  path?: string,
): Promise<ExplainedThen> {
  const query = `at=${at}${isPathThen(path) ? `&path=${path}` : ''}`
  return client.json<ExplainedThen>(`/api/explain?${query}`, 'POST', descriptionJson(request))
}

/** Rebuilds the request from its log line, which does not tell where the id stood. */
function requestIn({ method, host, uri, key }: LoggedLine): DescribedRequest {
  const id = key?.slice(key.lastIndexOf('/') + 1)
  return describedRequest({ method, path: uri, host, ids: id === undefined || id === '' ? [] : [id] })
}

async function lineOf(id: string, file: string): Promise<LoggedLine | null> {
  let found: LoggedLine | null = null
  for await (const text of readLines(file, '--log')) {
    if (!text.includes(id)) continue
    const line = parsed(text)
    // The file may also hold the processor's log. Its lines have no method.
    if (line?.request_id === id && line.method !== undefined) found = line
  }
  return found
}

/** Parses a line of JSON, also behind a prefix that docker adds. */
export function parsed(text: string): LoggedLine | null {
  const from = text.indexOf('{')
  if (from === -1) return null
  try {
    const line: object = JSON.parse(text.slice(from))
    return Object.fromEntries(Object.entries(line).filter(([, value]) => value !== '' && value !== null))
  } catch {
    return null
  }
}

async function refusalOf(id: string, client: ProcessorClient): Promise<LoggedLine | null> {
  const { events } = await client.json<HistoryPage>(`/api/history?kind=refused&limit=${HISTORY_LIMIT}`)
  const event = events.findLast((each) => each.kind === 'refused' && each.requestId === id)
  return event?.kind === 'refused' ? lineOfRefusal(event) : null
}

export function lineOfRefusal(event: RefusedEvent & { readonly at: number }): LoggedLine {
  const { at, zone, name, reason, requestId, method, host, path } = event
  return {
    time: new Date(at).toISOString(),
    request_id: requestId,
    reason,
    path: 'cold',
    ...(method !== undefined && { method }),
    ...(host !== undefined && { host }),
    ...(path?.startsWith('/') && { uri: path }),
    ...(zone !== undefined && { key: zone }),
    ...(name !== undefined && { zone: name }),
  }
}

/** The moment, the steps of the decision, then what to do. */
function thenText({ at, request, steps, decision }: ExplainedThen, paint: Paint): string {
  const { method, authority, path, ids } = request
  const id = ids.length === 0 ? '' : `, id ${ids.join(' and ')}`
  const title = paint('bold', plain(`${localTime(at)}: ${method} ${authority}${path}${id}`))
  const lines = steps.map(({ step, ok, text, at: since }) => {
    const mark = ok ? paint('green', 'ok') : paint('red', 'no')
    const when = since === undefined ? '' : paint('dim', `  [${localTime(since)}]`)
    return `  ${mark}  ${step.padEnd(9)}  ${plain(text)}${when}\n`
  })
  return `${title}\n\n${lines.join('')}${adviceText(decision, paint)}`
}

function adviceText(decision: ExplainedThen['decision'], paint: Paint): string {
  if (decision.result === 'unknown')
    return '\nThe history of that time is incomplete, so the decision is unknown.\n'
  if (decision.result === 'forward') return ''
  const { cause, wayOut } = decision
  return `\n${paint('bold', 'Cause:')}   ${cause}\n${paint('bold', 'Way out:')} ${wayOut}\n`
}

export function loggedText({ line, then }: LoggedRequest, paint: Paint): string {
  const { time, request_id, status, reason, path, zone, address, uri } = line
  const parts = [
    `${request_id} came at ${localTime(Date.parse(time ?? ''))}`,
    ...(status === undefined ? [] : [`status ${status}`]),
    ...(reason === undefined ? [] : [`reason ${reason}`]),
    ...(zone === undefined ? [] : [`zone ${zone}`]),
    ...(path === undefined ? [] : [`path ${path}`]),
    ...(address === undefined ? [] : [`sent to ${address}`]),
    ...(uri === undefined ? ['URL path unknown, assuming /'] : []),
  ]
  return `${paint('bold', plain(parts.join(', ')))}\n\n${thenText(then, paint)}`
}
