import { randomBytes } from 'node:crypto'
import { a, type Script, type ScriptedNameserver, silent } from '../support/nameserver.ts'

/** Random numbers from 0 to 1, exclusive. The same seed gives the same numbers (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** What a nameserver does wrong. `stopped`: its port is closed. */
export type Fault = Script | 'stopped'

const SLOW_MS_MAX = 400

/**
 * Every fault by name.
 * @param poison the address in false answers. No receiver listens there, so a false answer in use is a failed request
 */
export function faultsOf(good: Script, poison: string, random: () => number): Record<string, Fault> {
  return {
    silent,
    stopped: 'stopped',
    SERVFAIL: (query) => query.reply({ rcode: 2 }),
    REFUSED: (query) => query.reply({ rcode: 5 }),
    'wrong ids': (query) =>
      query.reply({ id: (query.message.id + 1) & 0xffff, answers: [a(query.name, poison, 1)] }),
    'truncated, TCP ok': (query) => {
      if (query.transport === 'udp') query.reply({ truncated: true, answers: [a(query.name, poison, 1)] })
      else good(query)
    },
    slow: (query) => void setTimeout(() => good(query), random() * SLOW_MS_MAX),
    'random bytes': (query) => query.send(randomBytes(1 + Math.floor(random() * 512))),
  }
}

/** Gives the nameserver a fault. */
export async function afflict(nameserver: ScriptedNameserver, fault: Fault): Promise<void> {
  if (fault === 'stopped') await nameserver.stop()
  else nameserver.script = fault
}

/** Ends the fault. */
export async function cure(nameserver: ScriptedNameserver, fault: Fault, good: Script): Promise<void> {
  nameserver.script = good
  if (fault === 'stopped') await nameserver.start()
}

/** The right answers: each zone's present host, NXDOMAIN for other names. */
export function answering(hostOf: ReadonlyMap<string, string>, ttlSeconds: number): Script {
  return (query) => {
    const [, id = ''] = /^zone(\w+)-/.exec(query.name) ?? []
    const host = hostOf.get(id)
    if (host === undefined) query.reply({ rcode: 3 })
    else query.reply({ answers: query.type === 'A' ? [a(query.name, host, ttlSeconds)] : [] })
  }
}

export function shuffled<T>(values: readonly T[], random: () => number): T[] {
  return values
    .map((value) => ({ value, rank: random() }))
    .sort((one, other) => one.rank - other.rank)
    .map(({ value }) => value)
}

/** Moves some zones to the other of two hosts. Returns how many. */
export function moveSome(
  hostOf: Map<string, string>,
  [one, other]: readonly [string, string],
  share: number,
  random: () => number,
): number {
  const moved = [...hostOf.keys()].filter(() => random() < share)
  for (const id of moved) hostOf.set(id, hostOf.get(id) === one ? other : one)
  return moved.length
}
