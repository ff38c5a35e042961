import type { Answer } from '../dns/answer.ts'
import { type Decision, decide } from './decision.ts'
import { type RequestHead, type Rules, zoneOf } from './rules.ts'

/** Decides one request; without waiting where the answer is cached. Never rejects for what a request or DNS can do. */
export type Decider = (head: RequestHead) => Decision | Promise<Decision>

/** What the decider needs of DNS: an answer at once from the cache, or a promise of one within the budget. */
export type Lookup = (name: string) => Answer | Promise<Answer>

/** @param search the search domain in force, asked at each request because resolv.conf may change */
export function createDecider(rules: Rules, search: () => string, lookup: Lookup): Decider {
  let turn = 0
  return (head) => {
    const zone = zoneOf(head, rules, search())
    if (typeof zone === 'string') return { kind: 'reject', reason: zone }
    const answer = lookup(zone.name)
    turn = (turn + 1) >>> 0
    if (answer instanceof Promise) {
      const mine = turn
      return answer.then((found) => decide(zone, found, mine))
    }
    return decide(zone, answer, turn)
  }
}
