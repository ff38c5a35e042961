/**
 * A nameserver that does what its script says, over UDP and TCP on one port of the loopback: raw octets, so that it
 * can drop, delay, duplicate, truncate and lie.
 */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type Server, type Socket as TcpSocket } from 'node:net'
import { encodeMessage } from '../../demo/dns-encode.ts'
import { type DomainName, parseDomainName } from '../../src/dns/domain-name.ts'
import type {
  AddressRecord,
  CnameRecord,
  Message,
  QuestionType,
  ResourceRecord,
  SoaRecord,
  SrvRecord,
} from '../../src/dns/message.ts'
import { decodeMessage, isMalformed } from '../../src/dns/message.ts'
import { freePort } from './ports.ts'

export interface Query {
  readonly message: Message
  readonly name: DomainName
  readonly type: QuestionType
  readonly transport: 'udp' | 'tcp'
  /** Where a datagram came from; null over TCP. */
  readonly from: RemoteInfo | null
  /** Sends octets as a response: a datagram, or a frame with its length. */
  send(octets: Buffer): void
  /** Sends octets as they are: over TCP without a length. */
  sendRaw(octets: Buffer): void
  /** Encodes a response to this query, with these fields changed. */
  response(fields?: Partial<Message>): Buffer
  /** Sends such a response. */
  reply(fields?: Partial<Message>): void
  /** TCP: ends the connection. */
  hangUp(): void
}

export type Script = (query: Query) => void

export interface ScriptedNameserver {
  readonly address: string
  readonly host: string
  readonly port: number
  /** Every query received, in order. */
  readonly queries: readonly Query[]
  script: Script
  /** Closes both sockets: from now on ICMP says that nobody listens. */
  stop(): Promise<void>
  /** Opens them again, on the same port. */
  start(): Promise<void>
}

export async function startNameserver(
  script: Script,
  host = '127.0.0.1',
  port = 0,
): Promise<ScriptedNameserver> {
  const nameserver = new Nameserver(script, host, port)
  await nameserver.start()
  return nameserver
}

class Nameserver implements ScriptedNameserver {
  readonly host: string
  readonly queries: Query[] = []
  script: Script
  port: number
  #udp: UdpSocket | null = null
  #tcp: Server | null = null
  readonly #connections = new Set<TcpSocket>()

  constructor(script: Script, host: string, port: number) {
    this.script = script
    this.host = host
    this.port = port
  }

  get address(): string {
    return this.host.includes(':') ? `[${this.host}]:${this.port}` : `${this.host}:${this.port}`
  }

  async start(): Promise<void> {
    if (this.port === 0) this.port = await freePort(this.host)
    const udp = createSocket(this.host.includes(':') ? 'udp6' : 'udp4')
    udp.bind(this.port, this.host)
    await once(udp, 'listening')
    const tcp = createServer((socket) => this.#onConnection(socket))
    tcp.listen(this.port, this.host)
    await once(tcp, 'listening')
    udp.on('message', (octets, from) => this.#onDatagram(udp, octets, from))
    udp.on('error', () => {})
    this.#udp = udp
    this.#tcp = tcp
  }

  async stop(): Promise<void> {
    for (const connection of this.#connections) connection.destroy()
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#udp?.close()
    if (this.#tcp === null) resolve()
    else this.#tcp.close(() => resolve())
    this.#udp = null
    this.#tcp = null
    await promise
  }

  #onDatagram(udp: UdpSocket, octets: Buffer, from: RemoteInfo): void {
    const send = (response: Buffer): void => {
      if (this.#udp === udp) udp.send(response, from.port, from.address)
    }
    this.#onQuery(octets, 'udp', { from, send, sendRaw: send, hangUp: () => {} })
  }

  #onConnection(socket: TcpSocket): void {
    this.#connections.add(socket)
    let received = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('close', () => this.#connections.delete(socket))
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const end = 2 + received.readUInt16BE(0)
        const octets = received.subarray(2, end)
        received = received.subarray(end)
        this.#onQuery(octets, 'tcp', {
          from: null,
          send: (response) => socket.write(frame(response)),
          sendRaw: (raw) => socket.write(raw),
          hangUp: () => socket.destroy(),
        })
      }
    })
  }

  #onQuery(
    octets: Buffer,
    transport: 'udp' | 'tcp',
    way: Pick<Query, 'from' | 'send' | 'sendRaw' | 'hangUp'>,
  ): void {
    const message = decodeMessage(octets)
    if (isMalformed(message)) throw new Error(`a query is malformed: ${message.malformed}`)
    const [question] = message.questions
    if (question === undefined) throw new Error('a query asks nothing')
    const response = (fields: Partial<Message> = {}): Buffer =>
      encodeMessage({ ...message, response: true, recursionAvailable: true, ...fields })
    const query: Query = {
      message,
      name: question.name,
      type: question.type === 28 ? 'AAAA' : question.type === 33 ? 'SRV' : 'A',
      transport,
      ...way,
      response,
      reply: (fields) => way.send(response(fields)),
    }
    this.queries.push(query)
    this.script(query)
  }
}

/** RFC 7766 §8. */
export function frame(octets: Buffer): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(octets.length, 0)
  return Buffer.concat([length, octets])
}

export function nameOf(text: string): DomainName {
  const name = parseDomainName(text)
  if (name === null) throw new Error(`not a domain name: ${text}`)
  return name
}

export function a(name: string, address: string, ttlSeconds = 300): AddressRecord {
  return { name: nameOf(name), type: 'A', address, ttlSeconds }
}

export function aaaa(name: string, address: string, ttlSeconds = 300): AddressRecord {
  return { name: nameOf(name), type: 'AAAA', address, ttlSeconds }
}

export function cname(name: string, target: string, ttlSeconds = 300): CnameRecord {
  return { name: nameOf(name), type: 'CNAME', target: nameOf(target), ttlSeconds }
}

export function srv(
  name: string,
  target: string,
  port: number,
  { priority = 0, weight = 1, ttlSeconds = 300 } = {},
): SrvRecord {
  return { name: nameOf(name), type: 'SRV', target: nameOf(target), port, priority, weight, ttlSeconds }
}

export function soa(zone: string, minimumSeconds: number, ttlSeconds = 3600): SoaRecord {
  const times = { serial: 1, refreshSeconds: 3600, retrySeconds: 600, expireSeconds: 86_400, minimumSeconds }
  return {
    name: nameOf(zone),
    type: 'SOA',
    ttlSeconds,
    primary: nameOf(`ns.${zone}`),
    mailbox: nameOf(`hostmaster.${zone}`),
    ...times,
  }
}

/** Answers A queries for every name with these addresses. */
export function always(...addresses: string[]): Script {
  return (query) => {
    const answers: ResourceRecord[] =
      query.type === 'A' ? addresses.map((address) => a(query.name, address)) : []
    query.reply({ answers })
  }
}

export const silent: Script = () => {}
