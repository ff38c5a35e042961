import { KINDS } from '../history/event.ts'
import type { HistoryPage } from '../history/read-history.ts'
import type { Tone } from '../history/text.ts'
import { ProcessorClient } from './client.ts'
import { CLIENT_DETAILS, CLIENT_OPTIONS, type Command, UsageError } from './command.ts'
import { localTime, MOMENT_DETAILS, momentOf } from './moment.ts'
import { type Colour, json, type Paint, paintFor, plain } from './text.ts'

const EVENTS_DEFAULT = 1000
const COLOURS: Readonly<Record<Tone, Colour | undefined>> = {
  bad: 'red',
  warn: 'yellow',
  good: 'green',
  plain: undefined,
}

export const historyCommand: Command = {
  summary: 'what happened: addresses, nameservers, configurations, Envoys, pins, refusals',
  usage: '[--zone ID] [--since TIME] [--until TIME] [--kind KIND]',
  details: `  --zone ID        of one zone: its id, or SERVICE/ID; without it, of all zones and the gateway
  --since TIME     from then on
  --until TIME     until then
  --kind KIND      of this kind; repeat it for more: ${KINDS.join(', ')}
  --limit N        the newest N; ${EVENTS_DEFAULT} by default, 10,000 at most
${CLIENT_DETAILS}

${MOMENT_DETAILS}. Events are in the order in which they happened, whatever the clock was set to.`,
  example: 'zonegate history --zone 12 --since 02:00 --until 02:30',
  options: {
    ...CLIENT_OPTIONS,
    zone: { type: 'string' },
    since: { type: 'string' },
    until: { type: 'string' },
    kind: { type: 'string', multiple: true },
    limit: { type: 'string' },
  },
  positionalsMax: 0,
  run: async (args, terminal) => {
    const query = new URLSearchParams()
    const nowMs = Date.now()
    for (const option of ['since', 'until'] as const) {
      const text = args.text(option)
      if (text !== undefined) query.set(option, String(momentOf(option, text, nowMs)))
    }
    for (const kind of args.texts('kind')) {
      if (!(KINDS as readonly string[]).includes(kind))
        throw new UsageError(`--kind: expected one of ${KINDS.join(', ')}, got "${plain(kind)}"`)
      query.append('kind', kind)
    }
    const zone = args.text('zone')
    if (zone !== undefined) query.set('zone', zone)
    query.set('limit', args.text('limit') ?? String(EVENTS_DEFAULT))
    const page = await ProcessorClient.of(args, terminal).json<HistoryPage>(`/api/history?${query}`)
    terminal.stdout.write(args.flag('json') ? json(page) : historyText(page, paintFor(terminal)))
    return 0
  },
}

function historyText({ events, leftOut, completeSince, fault }: HistoryPage, paint: Paint): string {
  const lines = events.map(({ at, text, tone }) => {
    const colour = COLOURS[tone]
    const shown = plain(text)
    return `${paint('dim', localTime(at))}  ${colour === undefined ? shown : paint(colour, shown)}\n`
  })
  const notes = [
    ...(events.length === 0 ? ['nothing of this is kept'] : []),
    ...(leftOut > 0 ? [`${leftOut} older ones are not shown: --until or --limit`] : []),
    ...(completeSince === null
      ? []
      : [`what is older than ${localTime(Date.parse(completeSince))} made room (history.bytes)`]),
    ...(fault === null ? [] : [`a restart loses some of it: ${fault}`]),
  ]
  return [...lines, ...notes.map((note) => `${paint('dim', `(${plain(note)})`)}\n`)].join('')
}
