import { loadConfig } from '../config/load.ts'
import { rulesOf } from '../config/rules.ts'
import type { RequestHead } from '../routing/rules.ts'
import { type Explained, explain } from '../status/explain.ts'
import { isReason, REASONS } from '../status/reasons.ts'
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
import { noSearchDomain, openDns } from './open-dns.ts'
import { json, type Paint, paintFor, plain } from './text.ts'

export const explainCommand: Command = {
  summary: 'why a request goes where it goes, or what a reason means',
  usage: '--id ID [--method METHOD] [--path PATH] [--offline] | REASON',
  details: `  --id ID          of the id header; again for a header that stands there twice; without it: a request without an id
  --method METHOD  POST unless told otherwise
  --path PATH      / unless told otherwise
  --offline        asks no processor: resolves by itself, by the same configuration
  REASON           such as name_not_found: what it means, and the way out
${CLIENT_DETAILS}

Exit 0: the request would be forwarded. Exit 1: it would be refused.`,
  example: 'zonegate explain --id 12 --path /mail',
  options: {
    ...CLIENT_OPTIONS,
    id: { type: 'string', multiple: true },
    method: { type: 'string', default: 'POST' },
    path: { type: 'string', default: '/' },
    offline: { type: 'boolean' },
  },
  positionalsMax: 1,
  run: async (args, terminal) => {
    const [reason] = args.positionals
    if (reason !== undefined) return explainReason(reason, args, terminal)
    const head = headOf(args)
    const explained = args.flag('offline')
      ? await explainOffline(head, args, terminal)
      : await ProcessorClient.of(args, terminal).json<Explained>(`/api/explain?${query(head)}`)
    terminal.stdout.write(args.flag('json') ? json(explained) : explainedText(explained, paintFor(terminal)))
    return explained.decision.result === 'forward' ? 0 : 1
  },
}

function explainReason(reason: string, args: Arguments, terminal: Terminal): number {
  if (!isReason(reason))
    throw new UsageError(`no reason "${plain(reason)}"; there are ${Object.keys(REASONS).join(', ')}`)
  const { status, cause, wayOut } = REASONS[reason]
  const paint = paintFor(terminal)
  terminal.stdout.write(
    args.flag('json')
      ? json({ reason, status, cause, wayOut })
      : `${paint('bold', reason)} (${status})\n\n${causeText(cause, wayOut, paint)}`,
  )
  return 0
}

function headOf(args: Arguments): RequestHead {
  const path = args.text('path') ?? '/'
  if (!path.startsWith('/'))
    throw new UsageError(`--path: expected a path that begins with "/", got "${path}"`)
  return { method: args.text('method') ?? 'POST', path, ids: args.texts('id') }
}

function query({ method, path, ids }: RequestHead): URLSearchParams {
  const params = new URLSearchParams({ method, path })
  for (const id of ids) params.append('id', id)
  return params
}

async function explainOffline(head: RequestHead, args: Arguments, terminal: Terminal): Promise<Explained> {
  const { config } = loadConfig(configPath(args, terminal), terminal.environment)
  const dns = openDns(config, terminal.environment)
  try {
    const search = dns.searchDomain()
    if (search === null) throw new Error(noSearchDomain(config))
    return await explain(head, { rules: rulesOf(config), search, explainName: dns.explain, envoys: () => [] })
  } finally {
    dns.close()
  }
}

/** The steps, then what to do. */
export function explainedText({ request, steps, decision }: Explained, paint: Paint): string {
  const ids = request.ids.length === 0 ? 'no id' : `id ${request.ids.join(' and ')}`
  const title = paint('bold', plain(`${request.method} ${request.path}, ${ids}`))
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
