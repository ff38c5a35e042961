/**
 * DNS messages (RFC 1035 §4, RFC 2782, RFC 3596, RFC 6891) as values: what the decoder returns and the encoder takes.
 * Records of a type or class that isn't spelled out here keep their octets.
 */
import type { DomainName } from './domain-name.ts'

/** RFC 1035 §3.2.2, RFC 3596 §2.1, RFC 2782, RFC 6891 §6.1.1. */
export const RecordType = { A: 1, NS: 2, CNAME: 5, SOA: 6, AAAA: 28, SRV: 33, OPT: 41 } as const
export const RecordClass = { IN: 1 } as const
export type AddressType = 'A' | 'AAAA'
/** What this client asks for. */
export type QuestionType = AddressType | 'SRV'

/** RFC 1035 §4.1.1, RFC 6895 §2.3. Codes from 16 on need OPT. */
export const Rcode = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16,
} as const

const RCODE_TEXTS: ReadonlyMap<number, string> = new Map(
  Object.entries(Rcode).map(([text, code]) => [code, text]),
)

export function rcodeText(rcode: number): string {
  return RCODE_TEXTS.get(rcode) ?? `RCODE${rcode}`
}

export const HEADER_OCTETS = 12

export interface Message {
  readonly id: number
  /** QR. */
  readonly response: boolean
  /** 0: a standard query. */
  readonly opcode: number
  readonly authoritative: boolean
  readonly truncated: boolean
  readonly recursionDesired: boolean
  readonly recursionAvailable: boolean
  /** With the upper eight bits that OPT carries. */
  readonly rcode: number
  readonly questions: readonly Question[]
  readonly answers: readonly ResourceRecord[]
  readonly authorities: readonly ResourceRecord[]
  /** Without OPT, which is `edns`. */
  readonly additionals: readonly ResourceRecord[]
  readonly edns: Edns | null
}

export interface Question {
  readonly name: DomainName
  readonly type: number
  readonly class: number
}

/** RFC 6891 §6.1.2, §6.1.3. Options are kept as octets: this client uses none. */
export interface Edns {
  readonly udpPayloadOctets: number
  readonly version: number
  readonly dnssecOk: boolean
  readonly options: Buffer
}

export type ResourceRecord = AddressRecord | CnameRecord | SoaRecord | SrvRecord | OtherRecord

interface RecordHead {
  readonly name: DomainName
  /** 0 where the top bit was set on the wire (RFC 2181 §8). */
  readonly ttlSeconds: number
}

/** Class IN. The address is canonical text. */
export interface AddressRecord extends RecordHead {
  readonly type: AddressType
  readonly address: string
}

/** Class IN. */
export interface CnameRecord extends RecordHead {
  readonly type: 'CNAME'
  readonly target: DomainName
}

/** Class IN. */
export interface SoaRecord extends RecordHead {
  readonly type: 'SOA'
  readonly primary: DomainName
  readonly mailbox: DomainName
  readonly serial: number
  readonly refreshSeconds: number
  readonly retrySeconds: number
  readonly expireSeconds: number
  readonly minimumSeconds: number
}

/** Class IN. */
export interface SrvRecord extends RecordHead {
  readonly type: 'SRV'
  /** Lower is used first. */
  readonly priority: number
  readonly weight: number
  readonly port: number
  /** The root where the service is not to be had. */
  readonly target: DomainName
}

export interface OtherRecord extends RecordHead {
  readonly type: 'other'
  readonly typeCode: number
  readonly class: number
  readonly octets: Buffer
}
