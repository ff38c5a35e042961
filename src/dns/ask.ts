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
}

export interface AskSeams {
  readonly timers: Timers
  readonly transport: Transport
  /** An integer from 0 to 65,535 that can't be guessed. */
  readonly randomId: () => number
  readonly onEvent: (event: ResolverEvent) => void
}

/** RCODEs by which nameservers have refused OPT (RFC 6891 §7 names FORMERR; BADVERS is OPT's own). */
const EDNS_REFUSALS: readonly number[] = [Rcode.FORMERR, Rcode.NOTIMP, Rcode.BADVERS]

/** Adds each exchange to `tries`. An unusable finding's outcome is the RCODE, or why there is none. */
export async function ask(
  nameserver: Nameserver,
  options: AskOptions,
  seams: AskSeams,
  tries: Try[],
): Promise<Finding> {
  const protocol = options.useTcp ? 'tcp' : 'udp'
  let reply = await exchangeOnce(nameserver, protocol, nameserver.edns, options, seams, tries)
  if (nameserver.edns && EDNS_REFUSALS.includes(reply.rcode)) {
    reply = await exchangeOnce(nameserver, protocol, false, options, seams, tries)
    if (reply.rcode !== NO_RCODE && !EDNS_REFUSALS.includes(reply.rcode)) {
      nameserver.edns = false
      seams.onEvent({ kind: 'edns_unsupported', nameserver: nameserver.address.text })
    }
  }
  if (reply.truncated) reply = await exchangeOnce(nameserver, 'tcp', nameserver.edns, options, seams, tries)
  return reply.finding
}

interface Reply {
  readonly finding: Finding
  /** TC over UDP: the whole answer is to be had over TCP. */
  readonly truncated: boolean
  readonly rcode: number
}

const NO_RCODE = -1

async function exchangeOnce(
  nameserver: Nameserver,
  protocol: 'udp' | 'tcp',
  edns: boolean,
  { question, timeoutMs, deadlineMs, signal }: AskOptions,
  { timers, transport, randomId, onEvent }: AskSeams,
  tries: Try[],
): Promise<Reply> {
  const startMs = timers.now()
  const outcome = await transport[protocol]({
    nameserver: nameserver.address,
    query: encodeQuery(randomId(), question.name, question.type, edns),
    timeoutMs: Math.max(0, Math.min(timeoutMs, deadlineMs - startMs)),
    signal,
  })
  const milliseconds = timers.now() - startMs
  const reply =
    outcome.kind === 'response' ? read(outcome.octets, protocol, question) : unusable(outcome.kind)
  const entry: Try = {
    nameserver: nameserver.address.text,
    outcome: reply.finding.kind === 'unusable' ? reply.finding.outcome : rcodeText(reply.rcode),
    milliseconds,
    type: question.type,
    transport: protocol,
  }
  tries.push(entry)
  nameserver.count(entry.outcome)
  if (outcome.kind === 'response') nameserver.answered(milliseconds)
  onEvent({ kind: 'query', name: question.name, try: entry })
  return reply
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
