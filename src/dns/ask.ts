/**
 * Asks one nameserver one question: UDP first, TCP where the answer was cut, without EDNS where that may be why it failed,
 * over a port of its own where an error could be anybody's.
 */
import type { OnBug } from '../guard.ts'
import type { Timers } from '../timers.ts'
import type { Try } from './answer.ts'
import { classify, type Finding } from './classify.ts'
import { decodeMessage, isMalformed } from './decode.ts'
import type { DomainName } from './domain-name.ts'
import type { ResolverEvent } from './events.ts'
import { type QuestionType, Rcode, rcodeText } from './message.ts'
import type { Nameserver } from './nameservers.ts'
import { encodeQuery, isTruncated, questionsOf } from './query.ts'
import type { Transport } from './transport.ts'

export interface Question {
  readonly name: DomainName
  readonly type: QuestionType
  /** CNAMEs that led to `name`. */
  readonly links: number
  /** Where they began. */
  readonly origin: DomainName
}

export interface AskOptions {
  readonly question: Question
  /** For each exchange. */
  readonly timeoutMs: number
  /** For all of them together, on the clock of `timers`. */
  readonly deadlineMs: number
  readonly useTcp: boolean
  /** The first query carries OPT. */
  readonly edns: boolean
  readonly signal: AbortSignal
  readonly charge: Charge | null
}

export interface AskSeams {
  readonly timers: Timers
  readonly transport: Transport
  /** An integer from 0 to 65,535 that can't be guessed. */
  readonly randomId: () => number
  readonly onEvent: (event: ResolverEvent) => void
  /** For whom a query is sent, which its event says; undefined: nobody wants to know. */
  readonly askedFor?: (() => unknown) | undefined
  /** Told of an exception in what nobody waits for. */
  readonly onBug: OnBug
}

/** Pays for one query out of what names nobody knows may cost; false: nothing is left, and it must not be sent. */
export type Charge = () => boolean

/** The outcome where it was not sent. */
export const UNPAID = 'rate_limited'

/** RCODEs by which nameservers have refused OPT (RFC 6891 §7 names FORMERR; BADVERS is OPT's own). */
const EDNS_REFUSALS: readonly number[] = [Rcode.FORMERR, Rcode.NOTIMP, Rcode.BADVERS]

/**
 * Adds each exchange to `tries`, four at most. An unusable finding's outcome is the RCODE, or why there is none.
 */
export function ask(
  nameserver: Nameserver,
  options: AskOptions,
  seams: AskSeams,
  tries: Try[],
): Promise<Finding> {
  const way: Way = { protocol: options.useTcp ? 'tcp' : 'udp', edns: options.edns, ownPort: false }
  return askBy(way, { nameserver, options, seams, tries })
}

function askBy(way: Way, asking: Asking): Promise<Finding> {
  return exchange(way, asking, (reply, askedAtMs) => {
    const { nameserver, options, seams } = asking
    const nowMs = seams.timers.now()
    const { edns } = nameserver
    if (reply.finding.kind !== 'unusable') {
      if (way.edns) edns.answered(nowMs)
      else if (edns.answeredWithout(nowMs))
        seams.onEvent({ kind: 'edns_unsupported', nameserver: nameserver.address.text })
      return reply.finding
    }
    if (nowMs >= options.deadlineMs) return reply.finding
    if (reply.questionless && way.protocol === 'udp' && !way.ownPort)
      return askBy({ ...way, ownPort: true }, asking)
    const blame = way.edns ? ednsBlame(reply, edns.isTrusted(nowMs)) : 'none'
    if (blame !== 'none') edns.failed(askedAtMs, blame === 'refused')
    // A query that was not answered is asked without OPT in the next round: the nameserver may only be slow.
    if (blame !== 'none' && reply.outcome !== 'timeout') return askBy({ ...way, edns: false }, asking)
    if (reply.outcome === 'truncated' && way.protocol === 'udp')
      return askBy({ ...way, protocol: 'tcp' }, asking)
    return reply.finding
  })
}

/** How the question goes to the nameserver. No way is taken twice. */
interface Way {
  readonly protocol: 'udp' | 'tcp'
  readonly edns: boolean
  /** UDP: no other query's, so that nobody knows it. */
  readonly ownPort: boolean
}

/** Whether the OPT of the query is why it failed. */
type EdnsBlame = 'none' | 'perhaps' | 'refused'

function ednsBlame({ rcode, outcome }: Reply, trusted: boolean): EdnsBlame {
  if (EDNS_REFUSALS.includes(rcode)) return 'refused'
  if (outcome === 'malformed') return 'perhaps'
  const mayBe = outcome === 'timeout' || rcode === Rcode.SERVFAIL
  return mayBe && !trusted ? 'perhaps' : 'none'
}

interface Asking {
  readonly nameserver: Nameserver
  readonly options: AskOptions
  readonly seams: AskSeams
  readonly tries: Try[]
}

interface Reply {
  readonly finding: Finding
  /** The RCODE, or why there is none. */
  readonly outcome: string
  readonly rcode: number
  /**
   * An error without a question. Whoever guesses one of the ids in flight on a port can send it without knowing what was
   * asked, so over a port that is shared it isn't believed.
   */
  readonly questionless: boolean
}

const NO_RCODE = -1

/** One query and what came of it, which is also taken down: in the tries, the nameserver's counters, an event. */
function exchange(
  { protocol, edns, ownPort }: Way,
  asking: Asking,
  next: (reply: Reply, askedAtMs: number) => Finding | Promise<Finding>,
): Promise<Finding> {
  const { nameserver, options, seams, tries } = asking
  const { question, timeoutMs, deadlineMs, signal, charge } = options
  const { timers, transport, randomId, onEvent } = seams
  const startMs = timers.now()
  if (charge !== null && !charge()) return Promise.resolve(next(unusable(UNPAID), startMs))
  const askedFor = seams.askedFor?.()
  const query = encodeQuery(randomId(), question.name, question.type, edns)
  return transport[protocol](
    {
      nameserver: nameserver.address,
      query,
      deadlineMs: Math.min(startMs + timeoutMs, deadlineMs),
      signal,
      ownPort,
    },
    (outcome) => {
      const milliseconds = timers.now() - startMs
      const reply =
        outcome.kind === 'response' ? read(outcome.octets, protocol, question) : unusable(outcome.kind)
      const entry: Try = {
        nameserver: nameserver.address.text,
        outcome: reply.outcome,
        milliseconds,
        type: question.type,
        transport: protocol,
      }
      tries.push(entry)
      nameserver.count(entry.outcome)
      if (outcome.kind === 'response') nameserver.answered(milliseconds)
      onEvent({ kind: 'query', name: question.name, try: entry, askedFor })
      return next(reply, startMs)
    },
  )
}

function read(octets: Buffer, protocol: 'udp' | 'tcp', question: Question): Reply {
  const questionless = questionsOf(octets) === 0
  // RFC 2181 §9: a truncated response is not to be used at all; what it cuts may not even decode.
  if (isTruncated(octets)) return unusable(protocol === 'tcp' ? 'malformed' : 'truncated', questionless)
  const message = decodeMessage(octets)
  if (isMalformed(message)) return unusable('malformed', questionless)
  const { rcode } = message
  const finding = classify(message, question.name, question.type, question.links)
  const outcome = finding.kind === 'unusable' ? finding.outcome : rcodeText(rcode)
  return { finding, outcome, rcode, questionless }
}

function unusable(outcome: string, questionless = false): Reply {
  return { finding: { kind: 'unusable', outcome }, outcome, rcode: NO_RCODE, questionless }
}
