import { request } from 'node:http'
import { hostname, userInfo } from 'node:os'
import { text as textOf } from 'node:stream/consumers'
import { utcText } from '../history/text.ts'
import { PIN_SOCKET } from '../pins/pin-socket.ts'
import { PIN_SECONDS_MAX, type Pin, type PinsStatus, WHO_LENGTH_MAX } from '../pins/pins.ts'
import type { Pinned } from '../processor/pin-commands.ts'
import type { Status } from '../status/status.ts'
import { ProcessorClient } from './client.ts'
import {
  type Arguments,
  CLIENT_DETAILS,
  CLIENT_OPTIONS,
  type Command,
  type Terminal,
  UsageError,
} from './command.ts'
import { type Column, duration, json, type Paint, paintFor, plain, table } from './text.ts'

const TIMEOUT_MS = 10_000
const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }
const SOCKET_OPTIONS = { socket: { type: 'string' }, json: { type: 'boolean' } } as const
const SOCKET_DETAILS = `  --socket PATH    the processor's socket; default: ${PIN_SOCKET} in the working directory. Only the processor's user and root
                   may open it
  --json           print JSON`

export const pinCommand: Command = {
  summary: 'send the requests of a zone to fixed addresses for a time',
  usage: 'ZONE ADDRESS... --for TIME --because TEXT',
  details: `  ZONE             an id, or SERVICE/ID for one service
  ADDRESS          10.0.0.5, or with a port 10.0.0.6:9000, [2001:db8::1]:9000. Until the pin ends, DNS is not asked
  --for TIME       30s, 45m, 2h, 7d; maximum: ${PIN_SECONDS_MAX / 86_400} days
  --because TEXT   the reason, which the status and the page show
  --by NAME        who sets the pin; default: the current user
${SOCKET_DETAILS}

A pin takes precedence over zones in zonegate.yaml and survives a restart of the processor. Each processor has its own pins.
Exit code 0: the zone is pinned. 1: it is not, or a restart would undo the pin.`,
  example: 'zonegate pin 12 10.0.0.5 --for 2h --because "disk of zone 12 is full"',
  options: {
    ...SOCKET_OPTIONS,
    for: { type: 'string' },
    because: { type: 'string' },
    by: { type: 'string' },
  },
  positionalsMax: 33,
  run: (args, terminal) => {
    const [zone, ...addresses] = args.positionals
    if (zone === undefined || addresses.length === 0) throw new UsageError('expected ZONE ADDRESS...')
    const [forText, because] = required(args, ['for', 'because'])
    const who = (args.text('by') ?? userText(terminal)).slice(0, WHO_LENGTH_MAX)
    const forSeconds = secondsOf(forText)
    return command('/pin', { zone, addresses, forSeconds, because, who }, args, terminal)
  },
}

export const unpinCommand: Command = {
  summary: 'end a pin, so that DNS is asked again',
  usage: 'ZONE',
  details: `  ZONE             the zone as given to "zonegate pin"
${SOCKET_DETAILS}`,
  example: 'zonegate unpin 12',
  options: SOCKET_OPTIONS,
  positionalsMax: 1,
  run: (args, terminal) => {
    const [zone] = args.positionals
    if (zone === undefined) throw new UsageError('expected ZONE')
    return command('/unpin', { zone }, args, terminal)
  },
}

export const pinsCommand: Command = {
  summary: 'list the pins: addresses, who set them, why, and until when',
  usage: '',
  details: CLIENT_DETAILS,
  example: 'zonegate pins',
  options: CLIENT_OPTIONS,
  positionalsMax: 0,
  run: async (args, terminal) => {
    const { at, pins } = await ProcessorClient.of(args, terminal).json<Status>('/api/status')
    terminal.stdout.write(args.flag('json') ? json(pins) : pinsText(pins, at, paintFor(terminal)))
    return 0
  },
}

export function pinsText({ pins, fault }: PinsStatus, atMs: number, paint: Paint): string {
  const columns: Column<Pin>[] = [
    { title: 'PINNED', text: ({ zone }) => zone },
    { title: 'ADDRESSES', text: ({ addresses }) => addresses.join(', ') },
    { title: 'LEFT', align: 'right', text: ({ until }) => duration((Date.parse(until) - atMs) / 1000) },
    { title: 'BY', text: ({ who }) => who },
    { title: 'BECAUSE', text: ({ because }) => because },
  ]
  const list = pins.length === 0 ? 'No zone is pinned.\n' : table(columns, pins, paint)
  return fault === null ? list : `${list}${paint('red', plain(fault))}\n`
}

async function command(
  path: string,
  sent: object,
  args: Arguments,
  { stdout, stderr }: Terminal,
): Promise<number> {
  const reply = await ask(args.text('socket') ?? PIN_SOCKET, path, sent)
  const { pin, fault } = reply
  const { zone, addresses, until } = pin
  const done =
    path === '/pin'
      ? `pinned: ${zone} to ${addresses.join(', ')} until ${utcText(Date.parse(until))}`
      : `unpinned: ${zone}`
  stdout.write(args.flag('json') ? json(reply) : `${plain(done)}\n`)
  if (fault !== null)
    stderr.write(`zonegate: this is in force now, but a restart would undo it: ${plain(fault)}\n`)
  return fault === null ? 0 : 1
}

function ask(socketPath: string, path: string, sent: object): Promise<Pinned> {
  return new Promise((resolve, reject) => {
    const call = request(
      { socketPath, path, method: 'POST', timeout: TIMEOUT_MS, agent: false },
      (response) => {
        textOf(response).then((body) => {
          const answer = JSON.parse(body)
          if (response.statusCode === 200) resolve(answer)
          else reject(new Error(String(answer.error)))
        }, reject)
      },
    )
    call.on('timeout', () => call.destroy(new Error('no answer in time')))
    call.on('error', (error: NodeJS.ErrnoException) => reject(new Error(whyNot(socketPath, error))))
    call.end(JSON.stringify(sent))
  })
}

function whyNot(path: string, { code, message }: NodeJS.ErrnoException): string {
  if (code === 'EACCES') return `${path}: permission denied; run this as root or as the processor's user`
  const wayOut =
    "run this on the processor's machine and in its working directory, or give its socket with --socket"
  return `no processor answers on ${path} (${code ?? message}): ${wayOut}`
}

/** @throws UsageError that names each option without a text */
function required<Options extends readonly string[]>(
  args: Arguments,
  options: readonly [...Options],
): { [At in keyof Options]: string } {
  const texts = options.map((option) => args.text(option)?.trim() ?? '')
  const missing = options.filter((_, index) => texts[index] === '').map((option) => `--${option}`)
  if (missing.length > 0)
    throw new UsageError(`expected ${missing.join(' and ')}; "zonegate pin --help" lists the options`)
  return texts as { [At in keyof Options]: string }
}

function secondsOf(text: string): number {
  const [, number, unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  const seconds = Number(number) * (UNITS[unit] ?? Number.NaN)
  if (!(seconds >= 1 && seconds <= PIN_SECONDS_MAX))
    throw new UsageError(
      `--for: expected a time like 30s, 45m, 2h or 7d, ${PIN_SECONDS_MAX / 86_400} days at most`,
    )
  return seconds
}

/** With sudo, the user who called it. */
function userText({ environment }: Terminal): string {
  return `${environment['SUDO_USER'] ?? userInfo().username}@${hostname()}`
}
