import { createReadStream } from 'node:fs'
import { isTypo } from '../config/faults.ts'
import { loadConfig } from '../config/load.ts'
import { rulesOf } from '../config/rules.ts'
import { pinsOnDisk } from '../pins/pins.ts'
import { openDns, searchFault } from '../processor/open-dns.ts'
import { SaidNow } from '../processor/said-now.ts'
import { COLD_REASONS, isColdReason } from '../status/cold-reasons.ts'
import { type Explained, explain } from '../status/explain.ts'
import { isReason, REASONS, type ReasonText } from '../status/reasons.ts'
import {
  BODY_OCTETS_MAX,
  type DescribedRequest,
  DescriptionFault,
  describedRequest,
  descriptionJson,
} from '../status/request-description.ts'
import { ProcessorClient } from './client.ts'
import {
  type Arguments,
  CLIENT_DETAILS,
  CLIENT_OPTIONS,
  type Command,
  configPath,
  type Terminal,
  UsageError,
} from './command.ts'
import { explainLogged, explainMoment } from './explain-then.ts'
import { MOMENT_DETAILS } from './moment.ts'
import { json, type Paint, paintFor, plain } from './text.ts'

export const explainCommand: Command = {
  summary: 'explain where a request goes and why, or what a reason means',
  usage:
    "[--id ID] [--method METHOD] [--path PATH] [--host HOST] [--header LINE] [--body FILE] [--at TIME] | --curl 'curl ...' | --request-id ID [--log FILE] | REASON",
  details: `  --id ID          the zone's id, in the first place where the matching rule looks; repeat it to send two ids
  --method METHOD  default: POST
  --path PATH      the path with its query; default: /
  --host HOST      the Host header, as in the URL
  --header LINE    'name: value'; repeat it for several headers
  --body FILE      the body; - reads standard input. Maximum: ${BODY_OCTETS_MAX} octets
  --curl COMMAND   a curl command, as browsers copy it, instead of --method, --path, --host and --header; it is not run
  --at TIME        explain the request as of this moment, from the processor's history. ${MOMENT_DETAILS}
  --request-id ID  explain an earlier request
  --log FILE       Envoy's access log, to find that request in; - reads standard input. Default: the refusals in the history
  --offline        ask no running processor: read the configuration and ask DNS
  REASON           what a reason means and what to do: of a refusal (name_not_found) or of a cold zone (zones_max)
${CLIENT_DETAILS}

Exit code 0: the request would be forwarded. 1: it would be refused.`,
  example: 'zonegate explain --id 12 --path /mail',
  options: {
    ...CLIENT_OPTIONS,
    id: { type: 'string', multiple: true },
    method: { type: 'string' },
    path: { type: 'string' },
    host: { type: 'string' },
    header: { type: 'string', multiple: true },
    body: { type: 'string' },
    curl: { type: 'string' },
    at: { type: 'string' },
    'request-id': { type: 'string' },
    log: { type: 'string' },
    offline: { type: 'boolean' },
  },
  positionalsMax: 1,
  run: async (args, terminal) => {
    const [reason] = args.positionals
    if (reason !== undefined) return explainReason(reason, args, terminal)
    if (args.text('request-id') !== undefined) return explainLogged(args, terminal)
    const request = await requestOf(args)
    if (args.text('at') !== undefined) return explainMoment(request, args, terminal)
    const explained = args.flag('offline')
      ? await explainOffline(request, args, terminal)
      : await ProcessorClient.of(args, terminal).json<Explained>(
          '/api/explain',
          'POST',
          descriptionJson(request),
        )
    terminal.stdout.write(args.flag('json') ? json(explained) : explainedText(explained, paintFor(terminal)))
    return explained.decision.result === 'forward' ? 0 : 1
  },
}

function explainReason(reason: string, args: Arguments, terminal: Terminal): number {
  const known = reasonText(reason)
  if (known === null) {
    const all = [...Object.keys(REASONS), ...Object.keys(COLD_REASONS)]
    const meant = all.find((each) => isTypo(reason, each))
    const hint = meant === undefined ? `the reasons are ${all.join(', ')}` : `did you mean ${meant}?`
    throw new UsageError(`there is no reason "${plain(reason)}"; ${hint}`)
  }
  const { status, cause, wayOut } = known
  const paint = paintFor(terminal)
  terminal.stdout.write(
    args.flag('json')
      ? json({ reason, status, cause, wayOut })
      : `${paint('bold', reason)} (${status})\n\n${causeText(cause, wayOut, paint)}`,
  )
  return 0
}

/** Why a request is refused, or why a zone stays cold. */
function reasonText(reason: string): ReasonText | null {
  if (isReason(reason)) return REASONS[reason]
  return isColdReason(reason) ? { status: 'cold', ...COLD_REASONS[reason] } : null
}

async function requestOf(args: Arguments): Promise<DescribedRequest> {
  const file = args.text('body')
  try {
    return describedRequest({
      method: args.text('method'),
      path: args.text('path'),
      host: args.text('host'),
      headers: args.texts('header'),
      body: file === undefined ? undefined : await readBody(file),
      ids: args.texts('id'),
      curl: args.text('curl'),
    })
  } catch (error) {
    if (error instanceof DescriptionFault) throw new UsageError(`--${error.field}: ${error.message}`)
    throw error
  }
}

/** Reads no more than needed to see that a body is too long. @throws UsageError */
async function readBody(file: string): Promise<Buffer> {
  const chunks: Buffer[] = []
  let octets = 0
  try {
    for await (const chunk of file === '-' ? process.stdin : createReadStream(file)) {
      chunks.push(chunk)
      octets += chunk.length
      if (octets > BODY_OCTETS_MAX) break
    }
  } catch (error) {
    throw new UsageError(`--body: can't read "${file}": ${(error as Error).message}`)
  }
  return Buffer.concat(chunks)
}

async function explainOffline(
  head: DescribedRequest,
  args: Arguments,
  terminal: Terminal,
): Promise<Explained> {
  const { config } = loadConfig(configPath(args, terminal), terminal.environment)
  const dns = openDns(config, terminal.environment)
  try {
    const search = dns.searchDomain()
    const fault = searchFault(config, search)
    if (search === null || fault !== null) throw new Error(fault ?? '')
    const rules = rulesOf(config)
    const said = new SaidNow(config, rules, pinsOnDisk(Date.now())).now()
    return await explain(head, { rules, search, said, explainName: dns.explain, envoys: null })
  } finally {
    dns.close()
  }
}

/** The request, the steps of its decision, then what to do. */
export function explainedText({ request, steps, decision }: Explained, paint: Paint): string {
  const { method, authority, path, ids, bodyOctets } = request
  const id = ids.length === 0 ? '' : `, id ${ids.join(' and ')}`
  const body = bodyOctets === 0 ? '' : `, a body of ${bodyOctets} octets`
  const title = paint('bold', plain(`${method} ${authority}${path}${id}${body}`))
  const lines = steps.map(({ step, ok, text }) => {
    const mark = ok ? paint('green', 'ok') : paint('red', 'no')
    return `  ${mark}  ${step.padEnd(9)}  ${plain(text)}\n`
  })
  const advice = decision.result === 'refuse' ? `\n${causeText(decision.cause, decision.wayOut, paint)}` : ''
  return `${title}\n\n${lines.join('')}${advice}`
}

function causeText(cause: string, wayOut: string, paint: Paint): string {
  return `${paint('bold', 'Cause:')}   ${cause}\n${paint('bold', 'Way out:')} ${wayOut}\n`
}
