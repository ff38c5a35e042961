import type { Diff } from '../diff/diff.ts'
import type { LogDiff } from '../diff/log.ts'
import type { PolicyDiff } from '../diff/policy.ts'
import type { ZoneChange, ZoneDiff } from '../diff/zones.ts'
import { type Colour, type Column, type Paint, plain, table } from './text.ts'

/** Rows of the table. `--json` prints all. */
const ROWS_MAX = 100
const REQUESTS_MAX = 3

export function diffText(diff: Diff, paint: Paint): string {
  const { changed, policy, log, notes } = diff
  const parts = [
    changed.length === 0
      ? 'No key that decides where requests go has changed.\n'
      : `Changed: ${changed.map(({ key }) => key).join(', ')}\n`,
    policy === undefined ? '' : policyText(policy, paint),
    zonesText(diff, paint),
    log === undefined ? '' : logText(log, paint),
    notes.map((note) => `${paint('yellow', 'note')}   ${plain(note)}\n`).join(''),
    `${resultText(diff, paint)}\n`,
  ]
  return parts.filter((part) => part !== '').join('\n')
}

function resultText({ result, live, log }: Diff, paint: Paint): string {
  const compared = log === undefined ? 'the files were' : 'the files and the log were'
  return {
    same:
      live > 0
        ? paint('green', 'Nothing would change for requests.')
        : paint('yellow', `Found no change, but no zone is in use: only ${compared} compared.`),
    moves: paint('red', 'Something would change for requests.'),
    unknown: paint('yellow', 'Unknown: not everything could be compared.'),
  }[result]
}

interface Row extends ZoneChange {
  readonly zone: ZoneDiff
}

function zonesText({ zones, live, requestsPerSecond }: Diff, paint: Paint): string {
  const moved = zones.reduce((sum, zone) => sum + (zone.requestsPerSecond ?? 0), 0)
  const unknown = zones.filter(({ id }) => id === '*').length
  const ofZones = `${zones.length - unknown} of ${live} zones in use would change, with ${moved.toFixed(1)} of ${requestsPerSecond.toFixed(1)} requests a second${unknown === 0 ? '' : ', and ids that are not in DNS (*)'}`
  const ofNone = `No zone is in use${unknown === 0 ? ', so no zone was compared' : ', but ids that are not in DNS (*) would change'}`
  const title = live === 0 ? ofNone : ofZones
  if (zones.length === 0) return `${title}\n`
  const refused = zones.filter(({ changes }) => changes.some(({ change }) => change === 'refused')).length
  const loss = refused === 0 ? '' : `; ${refused} of them would be refused`
  const rows: Row[] = zones.flatMap((zone) => zone.changes.map((change) => ({ zone, ...change })))
  const shown = rows.slice(0, ROWS_MAX)
  const more =
    rows.length > shown.length ? `and ${rows.length - shown.length} more: use --json to see all\n` : ''
  return `${title}${loss}:\n${table(COLUMNS, shown, paint)}${more}`
}

const COLUMNS: readonly Column<Row>[] = [
  { title: 'ZONE', text: ({ zone }) => `${zone.service}/${zone.id}` },
  { title: 'REQ/S', align: 'right', text: ({ zone }) => zone.requestsPerSecond?.toFixed(1) ?? '-' },
  { title: 'CHANGE', text: ({ change }) => change, colour: ({ change }) => COLOURS[change] ?? 'yellow' },
  { title: 'REQUESTS', text: ({ requests }) => requestsText(requests) },
  { title: 'BEFORE', text: ({ before }) => before },
  { title: 'AFTER', text: ({ after }) => after },
]
const COLOURS: Partial<Record<ZoneChange['change'], Colour>> = { refused: 'red', forwarded: 'green' }

function requestsText(requests: readonly string[] | undefined): string {
  if (requests === undefined) return 'all'
  const more = requests.length > REQUESTS_MAX ? `, ${requests.length - REQUESTS_MAX} more` : ''
  return requests.slice(0, REQUESTS_MAX).join(', ') + more
}

function policyText({ changes, reasonsBefore, reasonsAfter }: PolicyDiff, paint: Paint): string {
  const lines = changes.map(
    ({ field, before, after }) =>
      `  ${plain(field)}: ${plain(before ?? 'absent')} ${paint('dim', '->')} ${plain(after ?? 'absent')}\n`,
  )
  const title =
    changes.length === 0
      ? 'The policy of routes and clusters stays the same.\n'
      : 'The policy of every zone changes:\n'
  const isCold = reasonsBefore.length === 0 && reasonsAfter.length > 0
  const cold = isCold
    ? ['With these files no zone can be learned:\n', ...reasonsAfter.map((line) => `  ${plain(line)}\n`)]
    : []
  return [title, ...lines, ...cold].join('')
}

function logText({ requests, differently, changes, unknown, unreadable }: LogDiff, paint: Paint): string {
  const refused = changes.reduce(
    (sum, { kind, requests }) => sum + (kind.startsWith('forwarded, then') ? requests : 0),
    0,
  )
  const loss = refused === 0 ? '' : `; ${refused} of them would be refused`
  const title = `${differently} of ${requests} requests in the log would be decided differently${loss}\n`
  const lines = changes.flatMap((change) => [
    `  ${String(change.requests).padStart(7)}  ${paint('bold', change.change)}: ${plain(change.kind)}\n`,
    ...change.examples.map(
      ({ line, request, before, after }) =>
        `           line ${line}: ${plain(request)}: ${plain(before)} ${paint('dim', '->')} ${plain(after)}\n`,
    ),
  ])
  const whys = Object.entries(unknown.why).sort(([, a], [, b]) => b - a)
  return [
    title,
    ...lines,
    ...(unknown.requests === 0 ? [] : [`${unknown.requests} unknown:\n`]),
    ...whys.map(([why, count]) => `  ${String(count).padStart(7)}  ${plain(why)}\n`),
    ...(unreadable.lines === 0
      ? []
      : [
          `${unreadable.lines} ${unreadable.lines === 1 ? 'line is' : 'lines are'} not from an access log: line ${unreadable.examples.join(', ')}${unreadable.lines > unreadable.examples.length ? ' and others' : ''}\n`,
        ]),
  ].join('')
}
