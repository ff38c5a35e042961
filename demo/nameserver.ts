import { createSocket, type Socket } from 'node:dgram'
import { type DomainName, parseDomainName } from '../src/dns/domain-name.ts'
import {
  decodeMessage,
  isMalformed,
  type Message,
  Rcode,
  RecordClass,
  RecordType,
  type ResourceRecord,
} from '../src/dns/message.ts'
import { encodeMessage } from './dns-encode.ts'

const TTL_SECONDS = 5
const NEGATIVE_TTL_SECONDS = 2

/** IPv4 addresses by name (lower case, no final dot). Each query reads them, so they may change. */
export type Records = Readonly<Record<string, readonly string[]>>

/** An authoritative nameserver for a few names, over UDP. The demo and some tests use it. */
export function startNameserver(host: string, port: number, records: Records): Promise<Socket> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  socket.on('message', (octets, peer) => {
    const query = decodeMessage(octets)
    if (isMalformed(query) || query.response) return
    socket.send(encodeMessage(answer(query, records)), peer.port, peer.address)
  })
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(port, host, () => resolve(socket))
  })
}

function answer(query: Message, records: Records): Message {
  const [question] = query.questions
  const addresses = question === undefined ? undefined : records[question.name]
  const isA = question?.type === RecordType.A && question.class === RecordClass.IN
  const answers: ResourceRecord[] =
    question !== undefined && isA
      ? (addresses ?? []).map((address) => ({
          type: 'A',
          name: question.name,
          ttlSeconds: TTL_SECONDS,
          address,
        }))
      : []
  return {
    ...query,
    response: true,
    authoritative: true,
    recursionAvailable: true,
    rcode: addresses === undefined ? Rcode.NXDOMAIN : Rcode.NOERROR,
    answers,
    authorities: answers.length > 0 || question === undefined ? [] : [soa(question.name)],
    additionals: [],
    edns: query.edns && { udpPayloadOctets: 1232, version: 0, dnssecOk: false, options: Buffer.alloc(0) },
  }
}

/** The SOA record limits how long resolvers cache the negative answer (RFC 2308 section 5). */
function soa(name: DomainName): ResourceRecord {
  const zone = parseDomainName(name.split('.').slice(-2).join('.')) ?? name
  return {
    type: 'SOA',
    name: zone,
    ttlSeconds: NEGATIVE_TTL_SECONDS,
    primary: zone,
    mailbox: zone,
    serial: 1,
    refreshSeconds: 3600,
    retrySeconds: 600,
    expireSeconds: 86_400,
    minimumSeconds: NEGATIVE_TTL_SECONDS,
  }
}
