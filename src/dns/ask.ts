/** Asks one nameserver one question: UDP first, TCP where the answer was cut, without EDNS where it isn't known. */
import type { Try } from './answer.ts'
import { classify, type Finding } from './classify.ts'
import { decodeMessage, isMalformed } from './decode.ts'
import type { DomainName } from './domain-name.ts'
import type { ResolverEvent } from './events.ts'
import { type AddressType, Rcode, rcodeText } from './message.ts'
import type { Nameserver } from './nameservers.ts'
import { encodeQuery, isTruncated } from './query.ts'
import type { Timers } from './timers.ts'
import type { Transport } from './transport.ts'

export interface Question {
  readonly name: DomainName
  readonly type: AddressType
  /** CNAMEs that led to `name`. */
  readonly links: number
}

export interface AskOptions {
  readonly question: Question
  /** For each exchange; the signal bounds them together. */
  readonly timeoutMs: number
  /** On the clock of `timers`. */
  readonly deadlineMs: number
  readonly useTcp: boolean
  readonly signal: AbortSignal
  readonly charge: Charge | null
}

export interface AskSeams {
  readonly timers: Timers
  readonly transport: Transport
  /** An integer from 0 to 65,535 that can't be guessed. */
  readonly randomId: () => number
  readonly onEvent: (event: ResolverEvent) => void
}

/** Pays for one query out of what names nobody knows may cost; false: nothing is left, and it must not be sent. */
export type Charge = () => boolean

/** The outcome where it was not sent. */
export const UNPAID = 'rate_limited'

/** RCODEs by which nameservers have refused OPT (RFC 6891 §7 names FORMERR; BADVERS is OPT's own). */
const EDNS_REFUSALS: readonly number[] = [Rcode.FORMERR, Rcode.NOTIMP, Rcode.BADVERS]

/** Adds each exchange to `tries`. An unusable finding's outcome is the RCODE, or why there is none. */
export function ask(
  nameserver: Nameserver,
  options: AskOptions,
  seams: AskSeams,
  tries: Try[],
): Promise<Finding> {
  const asking = { nameserver, options, seams, tries }
  return exchange(asking, options.useTcp ? 'tcp' : 'udp', nameserver.edns, (reply) => {
    if (nameserver.edns && EDNS_REFUSALS.includes(reply.rcode)) return askWithoutEdns(asking)
    return reply.truncated ? askOverTcp(asking) : reply.finding
  })
}

/** RFC 6891 §7. That the nameserver doesn't know OPT is remembered only where the query fares better without. */
function askWithoutEdns(asking: Asking): Promise<Finding> {
  const { nameserver, options, seams } = asking
  return exchange(asking, options.useTcp ? 'tcp' : 'udp', false, (reply) => {
    if (reply.rcode !== NO_RCODE && !EDNS_REFUSALS.includes(reply.rcode) && nameserver.edns) {
      nameserver.edns = false
      seams.onEvent({ kind: 'edns_unsupported', nameserver: nameserver.address.text })
    }
    return reply.truncated ? askOverTcp(asking) : reply.finding
  })
}

function askOverTcp(asking: Asking): Promise<Finding> {
  return exchange(asking, 'tcp', asking.nameserver.edns, ({ finding }) => finding)
}

interface Asking {
  readonly nameserver: Nameserver
  readonly options: AskOptions
  readonly seams: AskSeams
  readonly tries: Try[]
}

interface Reply {
  readonly finding: Finding
  /** TC over UDP: the whole answer is to be had over TCP. */
  readonly truncated: boolean
  readonly rcode: number
}

const NO_RCODE = -1

/** One query and what came of it, which is also taken down: in the tries, the nameserver's counters, an event. */
function exchange(
  asking: Asking,
  protocol: 'udp' | 'tcp',
  edns: boolean,
  next: (reply: Reply) => Finding | Promise<Finding>,
): Promise<Finding> {
  const { nameserver, options, seams, tries } = asking
  const { question, timeoutMs, deadlineMs, signal, charge } = options
  if (charge !== null && !charge()) return Promise.resolve(next(unusable(UNPAID)))
  const { timers, transport, randomId, onEvent } = seams
  const startMs = timers.now()
  const query = encodeQuery(randomId(), question.name, question.type, edns)
  return transport[protocol](
    {
      nameserver: nameserver.address,
      query,
      deadlineMs: Math.min(startMs + timeoutMs, deadlineMs),
      signal,
    },
    (outcome) => {
      const milliseconds = timers.now() - startMs
      const reply =
        outcome.kind === 'response' ? read(outcome.octets, protocol, question) : unusable(outcome.kind)
      const { finding, rcode } = reply
      const entry: Try = {
        nameserver: nameserver.address.text,
        outcome: finding.kind === 'unusable' ? finding.outcome : rcodeText(rcode),
        milliseconds,
        type: question.type,
        transport: protocol,
      }
      tries.push(entry)
      nameserver.count(entry.outcome)
      if (outcome.kind === 'response') nameserver.answered(milliseconds)
      onEvent({ kind: 'query', name: question.name, try: entry })
      return next(reply)
    },
  )
}

function read(octets: Buffer, protocol: 'udp' | 'tcp', question: Question): Reply {
  if (isTruncated(octets)) {
    // RFC 2181 §9: a truncated response is not to be used at all; what it cuts may not even decode.
    if (protocol === 'tcp') return unusable('malformed')
    return { finding: { kind: 'unusable', outcome: 'truncated' }, truncated: true, rcode: NO_RCODE }
  }
  const message = decodeMessage(octets)
  if (isMalformed(message)) return unusable('malformed')
  const finding = classify(message, question.name, question.type, question.links)
  return { finding, truncated: false, rcode: message.rcode }
}

function unusable(outcome: string): Reply {
  return { finding: { kind: 'unusable', outcome }, truncated: false, rcode: NO_RCODE }
}
