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
  summary: 'list past events: addresses, nameservers, configurations, Envoys, pins, refusals',
  usage: '[--zone ID] [--since TIME] [--until TIME] [--kind KIND]',
  details: `  --zone ID        events of one zone: its id, or SERVICE/ID; default: all zones and the gateway
  --since TIME     events from this moment on
  --until TIME     events up to this moment
  --kind KIND      events of this kind; repeat it for several: ${KINDS.join(', ')}
  --limit N        the newest N events; default: ${EVENTS_DEFAULT}, maximum: 10,000
${CLIENT_DETAILS}

${MOMENT_DETAILS}. Events are in the order in which they happened, even if somebody set the clock.`,
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
    ...(events.length === 0 ? ['no such event is kept'] : []),
    ...(leftOut > 0 ? [`${leftOut} older events are not shown: use --until or --limit`] : []),
    ...(completeSince === null
      ? []
      : [`events before ${localTime(Date.parse(completeSince))} were dropped to make room (history.bytes)`]),
    ...(fault === null ? [] : [`a restart will lose some events: ${fault}`]),
  ]
  return [...lines, ...notes.map((note) => `${paint('dim', `(${plain(note)})`)}\n`)].join('')
}
