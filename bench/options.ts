import { parseArgs } from 'node:util'

export interface Options {
  readonly zones: readonly number[]
  readonly workers: readonly number[]
  readonly rounds: number
  readonly seconds: number
  readonly connections: number
  /** Those named, in the order of the catalogue; all when undefined. */
  readonly systems: readonly string[] | undefined
  readonly requestIds: boolean
  /** Instead of the comparison: what so many learned zones cost. */
  readonly scale: readonly number[] | undefined
  /** Instead of the comparison: Zipf's law over so many zones. */
  readonly many: readonly number[] | undefined
  /** `learned.zonesMax` of that; undefined: all of them. */
  readonly zonesMax: number | undefined
  /** `learned.sharedRoutes` of that and of `scale`. */
  readonly sharedRoutes: boolean
  /** Instead of the comparison: what it costs to look at so many learned zones. */
  readonly page: number | undefined
  /** Instead of the comparison: instructions a request of those systems that run on Envoy. */
  readonly instructions: boolean
  readonly jsonPath: string | undefined
  readonly help: boolean
}

export function help(systems: readonly { name: string; title: string }[]): string {
  const width = Math.max(...systems.map(({ name }) => name.length))
  const list = systems.map(({ name, title }) => `  ${name.padEnd(width)}  ${title}`).join('\n')
  return `npm run bench [-- OPTIONS]

Compares Zonegate with what it is built on and what it could be replaced by, in turns within one run.
Needs wrk, nginx and dnsmasq; other systems that are not installed are named and left out.
Linux only. Uses ports of 127.0.0.1, 127.0.1.53 and 127.0.2.1-250, among them port 8101 of the latter.

  --zones 1,100        how many zones the requests cycle over; each number is a table of its own
  --workers 1          workers of each proxy; each number is a table of its own
  --rounds 8           turns of each system; the tables show medians
  --seconds 2          length of a turn under load
  --connections 32     connections of wrk
  --systems a,b        only these
  --request-ids        every Envoy makes request ids (otherwise none does)
  --scale 100,2000     instead of all this: memory and push times of so many learned zones
  --many 2000,30000    instead of all this: requests over so many zones by Zipf's law, as many seconds as --seconds says: share of
                       the processor, CPU, memory, and the time until one more zone is hot meanwhile
  --zones-max 2000     with --many: no more zones are learned; otherwise all are
  --shared-routes      with --many and --scale: learned.sharedRoutes
  --page 2000          instead of all this: a scrape of so many learned zones, the page's first paint in Chromium, and what
                       an open page costs hot requests, in as many rounds
  --instructions       instead of all this: how many instructions Envoy spends on a request, counted by valgrind; of those
                       of the systems that run on Envoy, with the first number of zones
  --json FILE          write every turn, the versions and the machine to FILE
  --help

Systems:
${list}

Those whose title says where the id is run only where --systems names them. They get the same requests, with the id in every
place (for an id in a form the body is a form, else JSON): compare them with zonegate-header.
`
}

/** Reads the command line; throws an error that names the faulty option. */
export function parseOptions(args: readonly string[], known: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      zones: { type: 'string', default: '1,100' },
      workers: { type: 'string', default: '1' },
      rounds: { type: 'string', default: '8' },
      seconds: { type: 'string', default: '2' },
      connections: { type: 'string', default: '32' },
      systems: { type: 'string' },
      'request-ids': { type: 'boolean', default: false },
      scale: { type: 'string' },
      many: { type: 'string' },
      'zones-max': { type: 'string' },
      'shared-routes': { type: 'boolean', default: false },
      page: { type: 'string' },
      instructions: { type: 'boolean', default: false },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  const systems = values.systems?.split(',')
  const stranger = systems?.find((name) => !known.includes(name))
  if (stranger !== undefined) throw new Error(`--systems: "${stranger}" is not one of ${known.join(', ')}`)
  return {
    zones: wholeNumbers('--zones', values.zones, 10_000),
    workers: wholeNumbers('--workers', values.workers, 64),
    rounds: wholeNumber('--rounds', values.rounds, 100),
    seconds: wholeNumber('--seconds', values.seconds, 3600),
    connections: wholeNumber('--connections', values.connections, 4096),
    systems,
    requestIds: values['request-ids'],
    scale: values.scale === undefined ? undefined : wholeNumbers('--scale', values.scale, zonesMost),
    many: values.many === undefined ? undefined : wholeNumbers('--many', values.many, zonesMost),
    zonesMax:
      values['zones-max'] === undefined
        ? undefined
        : wholeNumber('--zones-max', values['zones-max'], zonesMost),
    sharedRoutes: values['shared-routes'],
    page: values.page === undefined ? undefined : wholeNumber('--page', values.page, 10_000),
    instructions: values.instructions,
    jsonPath: values.json,
    help: values.help,
  }
}

/** Of `learned.zonesMax`. */
const zonesMost = 100_000

function wholeNumbers(option: string, text: string, max: number): number[] {
  return text.split(',').map((part) => wholeNumber(option, part, max))
}

function wholeNumber(option: string, text: string, max: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : 0
  if (number < 1 || number > max)
    throw new Error(`${option}: "${text}" is not a whole number from 1 to ${max}`)
  return number
}
