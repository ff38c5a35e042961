import { randomBytes } from 'node:crypto'
import { a, type Script, type ScriptedNameserver, silent } from '../support/nameserver.ts'

/** Numbers from 0 to 1, exclusive, that a seed repeats (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** What a nameserver does wrong; `stopped` is not a script: nobody listens, and ICMP says so. */
export type Fault = Script | 'stopped'

const SLOW_MS_MAX = 400

/** Every fault by name. `poison` is what a lie says: no receiver listens there, so a lie believed is a failed request. */
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

export async function afflict(nameserver: ScriptedNameserver, fault: Fault): Promise<void> {
  if (fault === 'stopped') await nameserver.stop()
  else nameserver.script = fault
}
