import { parseArgs } from 'node:util'

export interface Options {
  readonly zones: readonly number[]
  readonly workers: readonly number[]
  readonly rounds: number
  readonly seconds: number
  readonly connections: number
  /** Names of systems; undefined: all that do not have to be named. */
  readonly systems: readonly string[] | undefined
  readonly requestIds: boolean
  /** Instead of the tables: docs/compare.md. */
  readonly compare: boolean
  /** Instead of the tables: what these numbers of learned zones cost. */
  readonly scale: readonly number[] | undefined
  /** Instead of the tables: requests over these numbers of zones, distributed by Zipf's law. */
  readonly many: readonly number[] | undefined
  /** `learned.zonesMax` with `many`; undefined: room for all zones. */
  readonly zonesMax: number | undefined
  /** `learned.sharedRoutes` with `many` and `scale`. */
  readonly sharedRoutes: boolean
  /** Instead of the tables: Envoy's instructions for a request. */
  readonly instructions: boolean
  readonly jsonPath: string | undefined
  readonly help: boolean
}

export function help(systems: readonly { name: string; title: string }[]): string {
  const width = Math.max(...systems.map(({ name }) => name.length))
  const list = systems.map(({ name, title }) => `  ${name.padEnd(width)}  ${title}`).join('\n')
  return `npm run bench [-- OPTIONS]

Measures Zonegate beside what it is built on and what could replace it. The systems take turns within one run.
Needs wrk, nginx and dnsmasq. It names and leaves out other systems that are not installed.
Linux only. Uses ports of 127.0.0.1, 127.0.1.53 and 127.0.2.1-250; of the last, port 8101.

  --zones 1,100        number of zones that the requests cycle over; one table for each number
  --workers 1          workers of each proxy; one table for each number
  --rounds 8           turns of each system; the tables show medians
  --seconds 2          length of a turn
  --connections 32     connections of wrk
  --systems a,b        only these systems
  --request-ids        every Envoy makes request ids; without it no Envoy does
  --json FILE          also write every turn, the versions and the machine to FILE
  --help

Other measurements, each instead of the tables:

  --compare            speed and faults of the systems in docs/compare.md; writes bench/compare.json and docs/compare.md.
                       3 rounds unless --rounds says otherwise; takes about 5 minutes
  --instructions       instructions that Envoy spends on a request, counted by valgrind, for the systems that run on
                       Envoy, with the first number of --zones. A busy machine does not change them
  --scale 100,2000     memory and push times for each number of learned zones
  --many 2000,30000    requests over each number of zones by Zipf's law, for --seconds: how many ask the processor, CPU,
                       memory, and the time until a new zone is hot under that load
  --zones-max 2000     with --many: learned.zonesMax; without it there is room for all zones
  --shared-routes      with --many and --scale: learned.sharedRoutes

Systems:
${list}

zonegate-shared and the systems named by the place of the id run only where --systems names them. Those named by the
place get requests with the id in every place (the body is a form for zonegate-form, else JSON): compare them with
zonegate-header.
`
}

/** Reads the command line. Throws an error that names the faulty option. */
export function parseOptions(args: readonly string[], known: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      zones: { type: 'string', default: '1,100' },
      workers: { type: 'string', default: '1' },
      rounds: { type: 'string' },
      seconds: { type: 'string', default: '2' },
      connections: { type: 'string', default: '32' },
      systems: { type: 'string' },
      'request-ids': { type: 'boolean', default: false },
      compare: { type: 'boolean', default: false },
      scale: { type: 'string' },
      many: { type: 'string' },
      'zones-max': { type: 'string' },
      'shared-routes': { type: 'boolean', default: false },
      instructions: { type: 'boolean', default: false },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  const systems = values.systems?.split(',')
  const unknown = systems?.find((name) => !known.includes(name))
  if (unknown !== undefined) throw new Error(`--systems: "${unknown}" is not one of ${known.join(', ')}`)
  const { scale, many, 'zones-max': zonesMax, compare } = values
  return {
    zones: wholeNumbers('--zones', values.zones, 10_000),
    workers: wholeNumbers('--workers', values.workers, 64),
    rounds: wholeNumber('--rounds', values.rounds ?? (compare ? '3' : '8'), 100),
    seconds: wholeNumber('--seconds', values.seconds, 3600),
    connections: wholeNumber('--connections', values.connections, 4096),
    systems,
    requestIds: values['request-ids'],
    compare,
    scale: scale === undefined ? undefined : wholeNumbers('--scale', scale, measuredZonesMost),
    many: many === undefined ? undefined : wholeNumbers('--many', many, measuredZonesMost),
    zonesMax: zonesMax === undefined ? undefined : wholeNumber('--zones-max', zonesMax, learnedZonesMost),
    sharedRoutes: values['shared-routes'],
    instructions: values.instructions,
    jsonPath: values.json,
    help: values.help,
  }
}

/** The largest `learned.zonesMax`. */
const learnedZonesMost = 100_000
/** `--scale` and `--many` learn up to 10 zones more, one by one. */
const measuredZonesMost = learnedZonesMost - 10

function wholeNumbers(option: string, text: string, max: number): number[] {
  return text.split(',').map((part) => wholeNumber(option, part, max))
}

function wholeNumber(option: string, text: string, max: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : 0
  if (number < 1 || number > max)
    throw new Error(`${option}: "${text}" is not a whole number from 1 to ${max}`)
  return number
}
