/**
 * One name and type, asked of the nameservers until one gives a usable answer or the time is over. One nameserver gets
 * up to four queries: UDP first, TCP where the response was truncated, without EDNS where EDNS may be the cause of a
 * failure, and over a port of its own where anybody could have sent the error.
 */
import type { OnBug } from '../guard.ts'
import type { Timers } from '../timers.ts'
import type { Try } from './answer.ts'
import { type Finding, outcomeOf, readResponse } from './classify.ts'
import type { DomainName } from './domain-name.ts'
import type { DnsEvent } from './events.ts'
import { encodeQuery, type QuestionType } from './message.ts'
import type { Nameserver, NameserverSet } from './nameservers.ts'
import type { NameserverAddress, Transport } from './transport.ts'

/** The shortest timeout where many tries share the time: enough for a nameserver that has to ask others first. */
const TRY_MS_MIN = 400
/** The outcome of a query that was not sent because nothing was left to pay for it. */
const UNPAID = 'rate_limited'
/** RCODEs by which nameservers have refused OPT (RFC 6891 §7 names FORMERR; BADVERS is OPT's own). */
const EDNS_REFUSALS: readonly string[] = ['FORMERR', 'NOTIMP', 'BADVERS']

export interface ResolverSettings {
  /** For each query. */
  readonly timeoutMs: number
  /** Rounds over all nameservers. */
  readonly attempts: number
  readonly rotate: boolean
  readonly useTcp: boolean
}

interface StubSeams {
  readonly timers: Timers
  readonly transport: Transport
  /** An integer from 0 to 65,535 that nobody can guess. */
  readonly randomId: () => number
  readonly onEvent: (event: DnsEvent) => void
  /** For whom a query is sent, which its event reports. */
  readonly askedFor?: (() => unknown) | undefined
  /** Receives an exception that no look-up waits for. */
  readonly onBug: OnBug
}

/** Pays for one query out of what unknown names may cost. False: nothing is left, so the query must not be sent. */
export type Charge = () => boolean

export interface Budget {
  /** On the clock of the seams. */
  readonly deadlineMs: number
  readonly signal: AbortSignal
  /** Null: the name is in use, and its queries are free. */
  readonly charge: Charge | null
}

/** What the nameservers say about one name and type. */
export type Resolution = { readonly tries: readonly Try[] } & (
  | (Usable & {
      /** The one that said so. */
      readonly nameserver: string
      /** The addresses of one family; the other family could not be asked. */
      readonly incomplete?: true
    })
  | { readonly kind: 'failure'; readonly cause: 'nameservers_failed' | 'timeout' | 'rate_limited' }
)

type Alias = Extract<Finding, { kind: 'alias' }>
type Unusable = Extract<Finding, { kind: 'unusable' }>
type Usable = Exclude<Finding, Alias | Unusable>

interface Question {
  readonly name: DomainName
  readonly type: QuestionType
  /** CNAMEs that led to `name`. */
  readonly links: number
  /** The first name of that chain. */
  readonly origin: DomainName
}

/** One nameserver's turn to answer a question. */
interface Turn {
  readonly nameserver: Nameserver
  readonly question: Question
  /** For each query. */
  readonly timeoutMs: number
  /** For all queries of the turn. */
  readonly deadlineMs: number
  readonly signal: AbortSignal
  readonly charge: Charge | null
  readonly tries: Try[]
}

/** How a query goes to the nameserver. A turn uses no way twice. */
interface Way {
  readonly protocol: 'udp' | 'tcp'
  /** With OPT. */
  readonly edns: boolean
  /** UDP: no other query uses the port, so nobody knows it. */
  readonly ownPort: boolean
}

const NONE: readonly Nameserver[] = []

export class StubResolver {
  readonly #nameservers: NameserverSet
  readonly #seams: StubSeams
  readonly #settings: () => ResolverSettings
  readonly #closing = new AbortController()

  /** @param settings called for each question, because resolv.conf may change */
  constructor(nameservers: NameserverSet, settings: () => ResolverSettings, seams: StubSeams) {
    this.#nameservers = nameservers
    this.#settings = settings
    this.#seams = seams
  }

  ask(name: DomainName, type: QuestionType, budget: Budget): Promise<Resolution> {
    return this.#rounds({ name, type, links: 0, origin: name }, budget, [])
  }

  /** Asks only the nameservers before `fallback`, healthy or not. Null: it is the first, or all have the same rank. */
  async askPreferred(
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

  /** Takes over a new list of nameservers. Questions to a nameserver that is no longer listed go to the new ones at once. */
  replaceNameservers(addresses: readonly NameserverAddress[]): void {
    for (const { address } of this.#nameservers.replace(addresses)) this.#seams.transport.abandon(address)
  }

  close(): void {
    this.#closing.abort()
    this.#seams.transport.close()
  }

  /**
   * The rounds of glibc (resolv.conf(5)): every nameserver in order, `attempts` times. From the second round on only
   * silent ones are asked, and without EDNS where EDNS may be why they are silent.
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
    // A single round would never try without EDNS.
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
        const edns = !withoutEdns.includes(nameserver) && nameserver.edns.next(nowMs)
        const finding = await this.#query(firstWay(useTcp, edns), {
          nameserver,
          question,
          timeoutMs: Math.min(timeoutMs, shareOf(leftMs, leftInRound, leftInAll)),
          // However many queries one nameserver gets, the others get their turn.
          deadlineMs: nowMs + leftMs / leftInRound,
          signal: budget.signal,
          charge: budget.charge,
          tries,
        })
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

  /** After a change of resolv.conf, an answer of a nameserver that is no longer in force doesn't count. */
  #startAgain({ origin, type }: Question, budget: Budget, tries: Try[]): Promise<Resolution> {
    return this.#rounds({ name: origin, type, links: 0, origin }, budget, tries)
  }

  /** Follows one alias only. Longer chains are the nameserver's task. */
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
   * Sends the same question to penalised nameservers as well. No look-up waits for them, and an answer ends the penalty.
   * The budget pays if it can. The query is sent in any case: at most one a second for a nameserver.
   */
  #probe(question: Question, { charge }: Budget): void {
    if (this.#nameservers.allHealthy) return
    const { now } = this.#seams.timers
    const { timeoutMs, useTcp } = this.#settings()
    for (const nameserver of this.#nameservers.takeDueForProbe(now())) {
      charge?.()
      // A probe only has to find out whether the nameserver is back, so it takes no risk with EDNS.
      const way = firstWay(useTcp, nameserver.edns.isTrusted(now()))
      const deadlineMs = now() + timeoutMs
      const signal = this.#closing.signal
      this.#query(way, { nameserver, question, timeoutMs, deadlineMs, signal, charge: null, tries: [] })
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

  /** Sends one query, and further ones where its finding asks for another way. Records each. */
  #query(way: Way, turn: Turn): Promise<Finding> {
    const { nameserver, question, timeoutMs, deadlineMs, signal, charge, tries } = turn
    const { timers, transport, randomId, onEvent, askedFor } = this.#seams
    const { protocol, edns, ownPort } = way
    if (charge !== null && !charge()) return Promise.resolve(unusable(UNPAID))
    const sentFor = askedFor?.()
    const sentAtMs = timers.now()
    const query = {
      nameserver: nameserver.address,
      protocol,
      octets: encodeQuery(randomId(), question.name, question.type, edns),
      deadlineMs: Math.min(sentAtMs + timeoutMs, deadlineMs),
      signal,
      ownPort,
    }
    return transport.send(query, (reply) => {
      const milliseconds = timers.now() - sentAtMs
      const isResponse = typeof reply !== 'string'
      const finding = isResponse ? readResponse(reply, protocol, question) : unusable(reply)
      if (isResponse) nameserver.answered(milliseconds)
      const entry: Try = {
        nameserver: nameserver.address.text,
        outcome: outcomeOf(finding),
        milliseconds,
        type: question.type,
        transport: protocol,
      }
      tries.push(entry)
      nameserver.count(entry.outcome)
      onEvent({ kind: 'query', name: question.name, try: entry, askedFor: sentFor })
      const next = this.#nextWay(way, turn, finding, sentAtMs)
      return next === null ? finding : this.#query(next, turn)
    })
  }

  /** Null: the finding counts. Also learns whether the nameserver supports EDNS. */
  #nextWay(way: Way, { nameserver, deadlineMs }: Turn, finding: Finding, sentAtMs: number): Way | null {
    const { timers, onEvent } = this.#seams
    const nowMs = timers.now()
    const { edns } = nameserver
    if (finding.kind !== 'unusable') {
      if (way.edns) edns.answered(nowMs)
      else if (edns.answeredWithout(nowMs))
        onEvent({ kind: 'edns_unsupported', nameserver: nameserver.address.text })
      return null
    }
    if (nowMs >= deadlineMs) return null
    if (finding.questionless && way.protocol === 'udp' && !way.ownPort) return { ...way, ownPort: true }
    const blame = way.edns ? ednsBlame(finding.outcome, edns.isTrusted(nowMs)) : 'none'
    if (blame !== 'none') edns.failed(sentAtMs, blame === 'refused')
    // A silent nameserver may only be slow, so the next round asks it without OPT.
    if (blame !== 'none' && finding.outcome !== 'timeout') return { ...way, edns: false }
    if (finding.outcome === 'truncated' && way.protocol === 'udp') return { ...way, protocol: 'tcp' }
    return null
  }
}

function firstWay(useTcp: boolean, edns: boolean): Way {
  return { protocol: useTcp ? 'tcp' : 'udp', edns, ownPort: false }
}

function unusable(outcome: string): Unusable {
  return { kind: 'unusable', outcome, questionless: false }
}

/** Whether the OPT of a query explains its failure. */
function ednsBlame(outcome: string, trusted: boolean): 'none' | 'perhaps' | 'refused' {
  if (EDNS_REFUSALS.includes(outcome)) return 'refused'
  if (outcome === 'malformed') return 'perhaps'
  const mayBe = outcome === 'timeout' || outcome === 'SERVFAIL'
  return mayBe && !trusted ? 'perhaps' : 'none'
}

function allTrusted(nameservers: readonly Nameserver[], nowMs: number): boolean {
  return nameservers.every(({ edns }) => edns.isTrusted(nowMs))
}

function resolutionOf(finding: Usable, { address }: Nameserver, tries: readonly Try[]): Resolution {
  return { ...finding, nameserver: address.text, tries }
}

/** True where the nameserver itself is at fault, whatever the question was. An RCODE may be the name's fault. */
function isDead(outcome: string): boolean {
  return outcome === 'timeout' || outcome === 'unreachable' || outcome === 'malformed'
}

/**
 * The part of the remaining time that one try gets: an even share among all tries to come, but not less than a
 * nameserver needs, and so that each nameserver of the round gets its turn.
 */
function shareOf(leftMs: number, leftInRound: number, leftInAll: number): number {
  return Math.max(leftMs / leftInAll, Math.min(TRY_MS_MIN, leftMs / leftInRound))
}
