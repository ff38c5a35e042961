/**
 * A process that looks up names of a hostile nameserver as fast as it gets answers, and names of a good one beside it. It reports
 * what happened. Nothing else runs in it, so its event loop and memory show what the DNS client does.
 * argv: hostile nameserver, good nameserver, look-ups of the hostile one, their budget in ms. `--expose-gc`.
 */
import type { Answer } from '../../src/dns/answer.ts'
import { createDns, type Dns, type DnsOptions } from '../../src/dns/dns.ts'
import { slowness } from './slowness.ts'

export interface Asked {
  readonly lookups: number
  /** Answers with addresses that came from the hostile nameserver. All are false. */
  readonly believed: number
  /** Look-ups of it that were still waiting 50 ms after their budget. */
  readonly late: number
  /** The longest CPU time between two 1 ms timers: an upper bound for one turn of the event loop. */
  readonly longestTurnMs: number
  /** Slowness of this machine (slowness.ts), to compare CPU times. */
  readonly slowness: number
  /**
   * Growth of the resident memory: twice that of the half that grew less. A leak grows in both halves, while the allocator reserves
   * memory only once.
   */
  readonly grownMb: number
  /** Growth of V8's heap and of the memory that it refers to. */
  readonly keptMb: number
  readonly good: { readonly asked: number; readonly answered: number }
  readonly behind: { readonly asked: number; readonly answered: number }
  readonly bugs: readonly string[]
  /** The hostile nameserver's, by outcome. */
  readonly outcomes: Readonly<Record<string, number>>
}

const IN_FLIGHT = 128
/** Of each nameserver, until code is compiled and the heap has the size of so many names at once. */
const WARM_UP = 3500
const BUDGET_SLACK_MS = 50
/** Of the event loop, in which all that is due ends, also after a pause. */
const TURNS = 8

const [hostile = '', good = '', lookupsText = '', budgetText = ''] = process.argv.slice(2)
const bugs: string[] = []
function client(nameservers: readonly string[], options: Partial<DnsOptions>): Dns {
  return createDns(
    {
      resolvConf: '/nonexistent',
      nameservers,
      search: 'game.test',
      budgetMs: Number(budgetText),
      ttlSeconds: { min: 5, max: 60 },
      timeoutMs: 80,
      attempts: 2,
      rotate: false,
      family: 'ipv4',
      staleSeconds: 3600,
      negativeTtlSecondsMax: 30,
      cacheEntriesMax: 1000,
      queriesInFlightMax: 1024,
      unknownNames: { queriesPerSecond: 1_000_000, queriesBurst: 1_000_000 },
      ...options,
    },
    {
      now: () => performance.now(),
      environment: {},
      admit: () => true,
      admitPort: () => true,
      onEvent: (event) => {
        if (event.kind === 'bug') bugs.push(String((event.error as Error).stack))
      },
    },
  )
}

let longestTurnMs = 0
let cpuMs = threadMs()
function look(): void {
  const nowMs = threadMs()
  longestTurnMs = Math.max(longestTurnMs, nowMs - cpuMs)
  cpuMs = nowMs
}
function threadMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

/** So many at once, each with another name. */
async function many(count: number, atOnce: number, lookup: (at: number) => Promise<void>): Promise<void> {
  let next = 0
  const one = async (): Promise<void> => {
    while (next < count) await lookup(next++)
  }
  await Promise.all(Array.from({ length: atOnce }, one))
}

const lookups = Number(lookupsText)
const [toHostile, toGood, toBoth] = [
  client([hostile], {}),
  client([good], { budgetMs: 5000, timeoutMs: 1000, attempts: 5 }),
  client([hostile, good], { budgetMs: 5000, timeoutMs: 150, attempts: 5 }),
]

let [believed, late] = [0, 0]
async function askHostile(name: string): Promise<void> {
  let isOver = false
  const lookup = toHostile.lookup(name)
  // In the same event loop: where the machine is slow, it is late, too. Started after the look-up, whose budget runs by then,
  // however long this process stands still between the two.
  const control = setTimeout(() => void lateUnless(() => isOver), Number(budgetText) + BUDGET_SLACK_MS)
  const answer = await lookup
  isOver = true
  clearTimeout(control)
  if (answer.kind === 'positive') believed++
}

async function lateUnless(isOver: () => boolean): Promise<void> {
  for (let turn = 0; turn < TURNS; turn++) await new Promise((done) => setImmediate(done))
  if (!isOver()) late++
}

/** Once V8 has given back what it can, which takes it several collections; they are no turn of what is measured. */
async function memory(): Promise<{ residentMb: number; keptMb: number }> {
  const longestMs = longestTurnMs
  for (let time = 0; time < 3; time++) {
    globalThis.gc?.()
    await new Promise((done) => setTimeout(done, 50))
  }
  look()
  longestTurnMs = longestMs
  const { rss, heapUsed, external } = process.memoryUsage()
  return { residentMb: rss / 1e6, keptMb: (heapUsed + external) / 1e6 }
}

const isGood = (answer: Answer): boolean =>
  answer.kind === 'positive' && answer.addresses.length === 1 && answer.addresses[0] === '10.0.0.1'

async function main(): Promise<Asked> {
  await many(WARM_UP, IN_FLIGHT, async (at) => void (await toGood.lookup(`w${at}.game.test`)))
  await many(WARM_UP, IN_FLIGHT, (at) => askHostile(`w${at}.game.test`))
  const before = await memory()
  look()
  longestTurnMs = 0
  const looking = setInterval(look, 1)
  const counts = { good: { asked: 0, answered: 0 }, behind: { asked: 0, answered: 0 } }
  let isOver = false
  const beside = async (dns: Dns, count: { asked: number; answered: number }): Promise<void> => {
    while (!isOver) {
      const answer = await dns.lookup(`b${count.asked++}.game.test`)
      if (isGood(answer)) count.answered++
      await new Promise((done) => setTimeout(done, 5))
    }
  }
  const others = [beside(toGood, counts.good), beside(toBoth, counts.behind)]
  await many(lookups / 2, IN_FLIGHT, (at) => askHostile(`n${at}.game.test`))
  const half = await memory()
  await many(lookups / 2, IN_FLIGHT, (at) => askHostile(`m${at}.game.test`))
  isOver = true
  await Promise.all(others)
  clearInterval(looking)
  const turnMs = longestTurnMs
  const after = await memory()
  const grownMb = 2 * Math.min(half.residentMb - before.residentMb, after.residentMb - half.residentMb)
  const keptMb = after.keptMb - before.keptMb
  const outcomes = toHostile.status().nameservers[0]?.outcomes ?? {}
  for (const dns of [toHostile, toGood, toBoth]) dns.close()
  const turns = { longestTurnMs: turnMs, slowness: slowness() }
  return { lookups, believed, late, ...turns, grownMb, keptMb, ...counts, bugs, outcomes }
}

process.stdout.write(JSON.stringify(await main()))
