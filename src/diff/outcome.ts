import { type Addresses, type Answer, areEndpoints, type Endpoint } from '../dns/answer.ts'
import { authorityOf, createDecider, type Decision } from '../routing/decision.ts'
import { type RejectReason, STATUS_OF_REASON } from '../routing/reject-reason.ts'
import type { RequestHead, Rule, Rules } from '../routing/rules.ts'
import type { SaidOfZones } from '../routing/said.ts'
import { reachText } from '../status/explain.ts'

/** The part of a configuration that says where requests go: of the one in force, or of a new one. */
export interface World {
  readonly rules: Rules
  readonly search: string
  readonly said: SaidOfZones
  /** What `said` is made of. Where two rules are equal and these texts too, both configurations say the same of the rule's zones. */
  readonly saidBy: string
  /** Asks DNS, or the answers that are known already. */
  readonly answerOf: (name: string) => Promise<Answer>
}

/** What happens to a request: all its targets, not only the one whose turn it is. */
export type Outcome =
  | {
      readonly result: 'forward'
      readonly name: string
      /** In a fixed order. */
      readonly targets: readonly Target[]
      /** The protocol, and whose certificate Envoy expects; empty: HTTP/1.1 in plain text. */
      readonly reach: string
      /** The answer has TTL 0: such a zone is never learned. */
      readonly isUncached: boolean
      /** The fallback zone takes it, so it always asks the processor. */
      readonly isInstead: boolean
    }
  | {
      readonly result: 'refuse'
      readonly reason: RejectReason
      readonly status: number
      /** What callers see during maintenance. */
      readonly text?: string
    }
  /** DNS gives no answer. */
  | { readonly result: 'unknown'; readonly name: string; readonly why: string }

export interface Target {
  readonly address: string
  readonly port: number
  /** 0 is used first; counted without gaps, so it is not the number in DNS. */
  readonly priority: number
  /** In lowest terms with the others of its priority. */
  readonly weight: number
  /** Priority and weight as the SRV record has them; absent: from elsewhere. */
  readonly srv?: Pick<NonNullable<Endpoint['srv']>, 'priority' | 'weight'>
}

/** What changes for a request. */
export type Move =
  | 'name'
  | 'address'
  | 'port'
  | 'upstream'
  | 'weights'
  | 'refused'
  | 'forwarded'
  | 'reason'
  | 'unknown'

export async function outcomeOf(head: RequestHead, world: World): Promise<Outcome> {
  return outcomeOfDecision(await deciderOf(world, world.answerOf)(head))
}

/** Like `outcomeOf`, for a request whose own zone is not in DNS. */
export async function outcomeOfUnknown(head: RequestHead, world: World): Promise<Outcome> {
  let isFirst = true
  const decide = deciderOf(world, (name) => {
    if (!isFirst) return world.answerOf(name)
    isFirst = false
    return { kind: 'nxdomain', name, ttlSeconds: 0, nameserver: '' }
  })
  return outcomeOfDecision(await decide(head))
}

function deciderOf(
  { rules, search, said }: World,
  lookup: (name: string) => Answer | Promise<Answer>,
): ReturnType<typeof createDecider> {
  return createDecider(rules, () => search, lookup, { said: () => said, random: () => 0 })
}

function outcomeOfDecision(decision: Decision): Outcome {
  if (decision.kind === 'forward') {
    const { zone, answer } = decision
    const isPositive = answer.kind === 'positive'
    return {
      result: 'forward',
      name: zone.name,
      targets: isPositive ? targetsOf(answer.addresses, zone.service.port) : [],
      reach: reachText(zone),
      isUncached: isPositive && answer.ttlSeconds === 0,
      isInstead: zone.insteadOf !== undefined,
    }
  }
  const { reason, zone, answer } = decision
  if (answer?.kind === 'failure') return { result: 'unknown', name: answer.name, why: whyFailed(answer) }
  const maintenance = reason === 'maintenance' ? zone?.said?.maintenance : undefined
  return {
    result: 'refuse',
    reason,
    status: maintenance?.status ?? STATUS_OF_REASON[reason],
    ...(maintenance && { text: maintenance.text }),
  }
}

function whyFailed({ cause, tries }: Extract<Answer, { kind: 'failure' }>): string {
  const asked = tries.map(({ nameserver, outcome }) => `${nameserver}: ${outcome}`)
  return asked.length === 0 ? cause : [...new Set(asked)].join(', ')
}

function targetsOf(addresses: Addresses, port: number): Target[] {
  const all: Target[] = areEndpoints(addresses)
    ? addresses.map((endpoint) => ({ ...endpoint }))
    : addresses.map((address) => ({ address, port, priority: 0, weight: 1 }))
  const common = new Map<number, number>()
  for (const { priority, weight } of all) common.set(priority, divisor(common.get(priority) ?? 0, weight))
  return all
    .map((target) => ({ ...target, weight: target.weight / (common.get(target.priority) || 1) }))
    .sort((a, b) => a.priority - b.priority || compare(targetText(a), targetText(b)))
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** The first difference that a request would notice; null: there is none. */
export function moveOf(before: Outcome, after: Outcome): Move | null {
  if (before.result === 'unknown' || after.result === 'unknown')
    return before.result === after.result ? null : 'unknown'
  if (before.result === 'refuse' && after.result === 'refuse')
    return JSON.stringify(before) === JSON.stringify(after) ? null : 'reason'
  if (before.result === 'refuse') return 'forwarded'
  if (after.result === 'refuse') return 'refused'
  if (before.name !== after.name) return 'name'
  const differ = (text: (target: Target) => string): boolean =>
    [...new Set(before.targets.map(text))].sort().join() !==
    [...new Set(after.targets.map(text))].sort().join()
  if (differ(({ address }) => address)) return 'address'
  if (differ(targetText)) return 'port'
  if (before.reach !== after.reach) return 'upstream'
  return differ((target) => `${targetText(target)} ${target.priority} ${target.weight}`) ? 'weights' : null
}

/** In one line. */
export function outcomeText(outcome: Outcome): string {
  switch (outcome.result) {
    case 'refuse':
      return `${outcome.status} ${outcome.reason}`
    case 'unknown':
      return `unknown: no answer for ${outcome.name} (${outcome.why})`
    case 'forward': {
      const [first] = outcome.targets
      const isPlain = outcome.targets.every(
        ({ priority, weight }) => priority === 0 && weight === first?.weight,
      )
      const targets = outcome.targets.map((target) => {
        const { priority, weight } = target.srv ?? target
        return targetText(target) + (isPlain ? '' : ` (priority ${priority}, weight ${weight})`)
      })
      return `${outcome.name} at ${targets.join(', ')}${outcome.reach}`
    }
  }
}

function targetText({ address, port }: Target): string {
  return authorityOf(address, port)
}

/** Equal for equal rules. `JSON.stringify` alone drops sets, maps and regular expressions. */
export function ruleText(rule: Rule): string {
  return JSON.stringify(rule, (_, value: unknown) =>
    value instanceof RegExp
      ? value.source
      : value instanceof Set || value instanceof Map
        ? [...value]
        : value,
  )
}
