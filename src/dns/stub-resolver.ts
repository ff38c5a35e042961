/** One name and type, asked of the nameservers in rounds until one gives an answer to use, or the budget ends. */
import type { Try } from './answer.ts'
import { type AskOptions, type AskSeams, ask, type Charge, type Question, UNPAID } from './ask.ts'
import type { Finding } from './classify.ts'
import type { DomainName } from './domain-name.ts'
import type { NameserverAddress } from './exchange.ts'
import type { QuestionType, SrvRecord } from './message.ts'
import type { Nameserver, NameserverSet } from './nameservers.ts'

/**
 * The least time a nameserver is given where the budget is split over many tries: enough for one that has to ask
 * others first.
 */
const TRY_MS_MIN = 400

export interface ResolverSettings {
  readonly timeoutMs: number
  /** Rounds over all nameservers. */
  readonly attempts: number
  readonly rotate: boolean
  readonly useTcp: boolean
}

export interface Budget {
  /** On the clock of the seams. */
  readonly deadlineMs: number
  readonly signal: AbortSignal
  /** Null: a name in use, which costs what it costs. */
  readonly charge: Charge | null
}

export type Resolution = {
  readonly tries: readonly Try[]
} & (
  | {
      readonly kind: 'positive'
      readonly addresses: readonly string[]
      /** Instead of addresses, where SRV was asked for. */
      readonly services?: readonly SrvRecord[]
      readonly ttlSeconds: number
      readonly nameserver: string
      /** The addresses of one family, where another could not be asked for. */
      readonly incomplete?: true
    }
  | { readonly kind: 'nxdomain' | 'nodata'; readonly ttlSeconds: number; readonly nameserver: string }
  | { readonly kind: 'failure'; readonly cause: 'nameservers_failed' | 'timeout' | 'rate_limited' }
)

const NONE: readonly Nameserver[] = []

type Alias = Extract<Finding, { kind: 'alias' }>

export class StubResolver {
  readonly #nameservers: NameserverSet
  readonly #seams: AskSeams
  readonly #settings: () => ResolverSettings
  readonly #closing = new AbortController()

  /** @param settings asked at each resolution, because resolv.conf may change */
  constructor(nameservers: NameserverSet, settings: () => ResolverSettings, seams: AskSeams) {
    this.#nameservers = nameservers
    this.#settings = settings
    this.#seams = seams
  }

  resolve(name: DomainName, type: QuestionType, budget: Budget): Promise<Resolution> {
    return this.#rounds({ name, type, links: 0, origin: name }, budget, [])
  }

  /** Takes over a new list of nameservers. What waits for one that is no longer on it is asked of the new ones at once. */
  replaceNameservers(addresses: readonly NameserverAddress[]): void {
    for (const { address } of this.#nameservers.replace(addresses)) this.#seams.transport.abandon(address)
  }

  /** Asks only those that stand before a nameserver, be they healthy or not; null: it is the first, or all are equal. */
  async resolveByPreferred(
    name: DomainName,
    type: QuestionType,
    budget: Budget,
    fallback: string,
  ): Promise<Resolution | null> {
    const preferred = this.#settings().rotate ? NONE : this.#nameservers.before(fallback)
    return preferred.length === 0
      ? null
      : this.#rounds({ name, type, links: 0, origin: name }, budget, [], preferred)
  }

  close(): void {
    this.#closing.abort()
    this.#seams.transport.close()
  }

  /**
   * glibc's rounds (resolv.conf(5)): every nameserver in order, `attempts` times; silent ones only from the second on, and
   * without EDNS where that may be why they are silent.
   */
  async #rounds(
    question: Question,
    budget: Budget,
    tries: Try[],
    among: readonly Nameserver[] | null = null,
  ): Promise<Resolution> {
    const { attempts, rotate, timeoutMs, useTcp } = this.#settings()
    const { now } = this.#seams.timers
    this.#probe(question, budget)
    const inForce = this.#nameservers.all
    let refusing = NONE
    let withoutEdns = NONE
    let candidates = among ?? this.#nameservers.inOrder(rotate)
    // With one attempt only, whoever is not known to take EDNS would never be asked without.
    const rounds = attempts > 1 || allTrusted(candidates, now()) ? attempts : 2
    for (let round = 1; round <= rounds && candidates.length > 0; round++) {
      let silent = NONE
      for (let at = 0; at < candidates.length; at++) {
        const nameserver = candidates[at] as Nameserver
        const nowMs = now()
        const leftMs = budget.deadlineMs - nowMs
        if (leftMs <= 0 || budget.signal.aborted) return { kind: 'failure', cause: 'timeout', tries }
        if (this.#nameservers.all !== inForce) return this.#startAgain(question, budget, tries)
        const leftInRound = candidates.length - at
        const leftInAll = leftInRound + (rounds - round) * candidates.length
        const options: AskOptions = {
          question,
          timeoutMs: Math.min(timeoutMs, shareOf(leftMs, leftInRound, leftInAll)),
          // However often it is asked, over TCP and without EDNS, the others get their turn.
          deadlineMs: nowMs + leftMs / leftInRound,
          useTcp,
          edns: !withoutEdns.includes(nameserver) && nameserver.edns.next(nowMs),
          signal: budget.signal,
          charge: budget.charge,
        }
        const finding = await ask(nameserver, options, this.#seams, tries)
        if (!this.#nameservers.isInForce(nameserver)) return this.#startAgain(question, budget, tries)
        if (finding.kind !== 'unusable') {
          this.#nameservers.recovered(nameserver)
          for (const other of refusing) this.#nameservers.penalise(other, now())
          if (finding.kind === 'alias')
            return this.#follow({ alias: finding, nameserver }, question, budget, tries, among)
          return resolutionOf(finding, nameserver, tries)
        }
        if (finding.outcome === UNPAID) return { kind: 'failure', cause: UNPAID, tries }
        if (finding.outcome === 'timeout') {
          silent = [...silent, nameserver]
          if (!nameserver.edns.isTrusted(now())) withoutEdns = [...withoutEdns, nameserver]
        }
        if (isDead(finding.outcome)) this.#nameservers.penalise(nameserver, now())
        else refusing = [...refusing, nameserver]
      }
      candidates = silent
    }
    if (this.#nameservers.all !== inForce) return this.#startAgain(question, budget, tries)
    const cause = budget.deadlineMs <= now() ? 'timeout' : 'nameservers_failed'
    return { kind: 'failure', cause, tries }
  }

  /** What a nameserver said that was taken out of force, by a change of resolv.conf, counts for nothing. */
  #startAgain({ origin, type }: Question, budget: Budget, tries: Try[]): Promise<Resolution> {
    return this.#rounds({ name: origin, type, links: 0, origin }, budget, tries)
  }

  /** Asks for the target of an alias: once, since a walk through zones is the nameserver's task. */
  async #follow(
    { alias, nameserver }: { readonly alias: Alias; readonly nameserver: Nameserver },
    from: Question,
    budget: Budget,
    tries: Try[],
    among: readonly Nameserver[] | null,
  ): Promise<Resolution> {
    if (from.links > 0) return { kind: 'failure', cause: 'nameservers_failed', tries }
    const question = { ...from, name: alias.target, links: alias.links }
    const resolution = await this.#rounds(question, budget, tries, among)
    if (!this.#nameservers.isInForce(nameserver)) return this.#startAgain(from, budget, tries)
    if (resolution.kind === 'failure') return resolution
    return { ...resolution, ttlSeconds: Math.min(alias.ttlSeconds, resolution.ttlSeconds) }
  }

  /**
   * Asks penalised nameservers the same question on the side: nobody waits for them, and an answer brings them back.
   * It is paid for where that is possible, and sent in any case: one a second for a nameserver at most.
   */
  #probe(question: Question, { charge }: Budget): void {
    if (this.#nameservers.allHealthy) return
    const { now } = this.#seams.timers
    const { timeoutMs, useTcp } = this.#settings()
    for (const nameserver of this.#nameservers.takeDueForProbe(now())) {
      const deadlineMs = now() + timeoutMs
      const options = {
        question,
        timeoutMs,
        deadlineMs,
        useTcp,
        // Whether it is back is all that is asked.
        edns: nameserver.edns.isTrusted(now()),
        signal: this.#closing.signal,
        charge: null,
      }
      charge?.()
      ask(nameserver, options, this.#seams, [])
        .then((finding) => {
          if (!this.#nameservers.isInForce(nameserver)) return
          if (finding.kind === 'unusable') this.#nameservers.penalise(nameserver, now())
          else this.#nameservers.recovered(nameserver)
        })
        .catch((error: unknown) => {
          nameserver.penalise(now())
          this.#seams.onBug(error)
        })
    }
  }
}

function allTrusted(nameservers: readonly Nameserver[], nowMs: number): boolean {
  return nameservers.every(({ edns }) => edns.isTrusted(nowMs))
}

function resolutionOf(
  finding: Exclude<Finding, Alias | { kind: 'unusable' }>,
  { address }: Nameserver,
  tries: readonly Try[],
): Resolution {
  const { kind, ttlSeconds } = finding
  const nameserver = address.text
  if (kind !== 'positive') return { kind, ttlSeconds, nameserver, tries }
  const { addresses, services } = finding
  if (services !== undefined) return { kind, addresses, services, ttlSeconds, nameserver, tries }
  return { kind, addresses, ttlSeconds, nameserver, tries }
}

/** Says that the nameserver itself is at fault, whatever was asked. An RCODE may be the name's fault. */
function isDead(outcome: string): boolean {
  return outcome === 'timeout' || outcome === 'unreachable' || outcome === 'malformed'
}

/**
 * A part of the time left for one try: an even share of all tries to come, yet not less than a nameserver needs,
 * and always so that each nameserver of the round still gets its turn.
 */
function shareOf(leftMs: number, leftInRound: number, leftInAll: number): number {
  return Math.max(leftMs / leftInAll, Math.min(TRY_MS_MIN, leftMs / leftInRound))
}
