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
import { type ExchangeOutcome, exchangeOverTcp, exchangeOverUdp } from './transport.ts'

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
  /** An integer from 0 to 65,535 that can't be guessed. */
  readonly randomId: () => number
  readonly onEvent: (event: ResolverEvent) => void
}

/** RCODEs by which nameservers have refused OPT (RFC 6891 §7 names FORMERR; BADVERS is OPT's own). */
const EDNS_REFUSALS: readonly number[] = [Rcode.FORMERR, Rcode.NOTIMP, Rcode.BADVERS]

/** `finding.outcome` and each try's outcome name the RCODE, or why there is none. */
export async function ask(
  nameserver: Nameserver,
  options: AskOptions,
  seams: AskSeams,
): Promise<{ finding: Finding; tries: Try[] }> {
  const tries: Try[] = []
  const send = (transport: 'udp' | 'tcp', edns: boolean) =>
    exchangeOnce(nameserver, transport, edns, options, seams, tries)

  let transport: 'udp' | 'tcp' = options.useTcp ? 'tcp' : 'udp'
  let reply = await send(transport, nameserver.edns)
  if (nameserver.edns && reply.rcode !== null && EDNS_REFUSALS.includes(reply.rcode)) {
    reply = await send(transport, false)
    if (reply.rcode !== null && !EDNS_REFUSALS.includes(reply.rcode)) {
      nameserver.edns = false
      seams.onEvent({ kind: 'edns_unsupported', nameserver: nameserver.address.text })
    }
  }
  if (reply.truncated && transport === 'udp') {
    transport = 'tcp'
    reply = await send(transport, nameserver.edns)
  }
  return { finding: reply.finding, tries }
}

interface Reply {
  readonly finding: Finding
  readonly truncated: boolean
  readonly rcode: number | null
}

async function exchangeOnce(
  nameserver: Nameserver,
  transport: 'udp' | 'tcp',
  edns: boolean,
  { question, timeoutMs, deadlineMs, signal }: AskOptions,
  { timers, randomId, onEvent }: AskSeams,
  tries: Try[],
): Promise<Reply> {
  const query = encodeQuery({ id: randomId(), name: question.name, type: question.type, edns })
  const startMs = timers.now()
  const exchange = transport === 'udp' ? exchangeOverUdp : exchangeOverTcp
  const outcome = await exchange({
    nameserver: nameserver.address,
    query,
    timeoutMs: Math.max(0, Math.min(timeoutMs, deadlineMs - startMs)),
    signal,
    timers,
  })
  const milliseconds = timers.now() - startMs
  const reply = read(outcome, transport, question)
  const text = outcomeText(reply)
  if (outcome.kind === 'response') nameserver.answered(milliseconds)
  nameserver.count(text)
  tries.push({
    nameserver: nameserver.address.text,
    outcome: text,
    milliseconds,
    type: question.type,
    transport,
  })
  onEvent({
    kind: 'query',
    nameserver: nameserver.address.text,
    name: question.name,
    type: question.type,
    transport,
    outcome: text,
    milliseconds,
  })
  return reply
}

function read(outcome: ExchangeOutcome, transport: 'udp' | 'tcp', question: Question): Reply {
  if (outcome.kind !== 'response') return unusable(outcome.kind)
  // RFC 2181 §9: a truncated response is not to be used at all; what it cuts may not even decode.
  if (isTruncated(outcome.octets))
    return { ...unusable(transport === 'udp' ? 'truncated' : 'malformed'), truncated: true }
  const message = decodeMessage(outcome.octets)
  if (isMalformed(message)) return unusable('malformed')
  const finding = classify(message, question.name, question.type, question.links)
  return { finding, truncated: false, rcode: message.rcode }
}

function unusable(outcome: string): Reply {
  return { finding: { kind: 'unusable', outcome }, truncated: false, rcode: null }
}

function outcomeText({ finding, rcode }: Reply): string {
  return finding.kind === 'unusable' ? finding.outcome : rcodeText(rcode ?? Rcode.NOERROR)
}
