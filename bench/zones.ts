export interface Zone {
  readonly id: string
  readonly hostName: string
  readonly address: string
}

export const searchDomain = 'bench.test'
export const receiverPort = 8101
/** For Zonegate's `addresses.allow`, because it denies loopback addresses by default. */
export const receiverNetwork = '127.0.2.0/24'

/** One process answers on all of them. Zone 251 has the same address as zone 1. */
export const receiverAddresses: readonly string[] = Array.from({ length: 250 }, (_, i) => `127.0.2.${i + 1}`)

export function firstZones(count: number): Zone[] {
  return Array.from({ length: count }, (_, i) => ({
    id: String(i + 1),
    hostName: `zone${i + 1}-default.${searchDomain}`,
    address: receiverAddresses[i % receiverAddresses.length] as string,
  }))
}
