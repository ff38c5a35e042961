/** What `zones` of zonegate.yaml and the command `zonegate pin` say of zones. */
import type { Addresses } from '../dns/answer.ts'

/** What is said of one zone. A merged zone also has the pin or maintenance of the zone that it is merged into. */
export interface Said {
  /** Another id makes its DNS name. */
  readonly merged?: OtherId
  /** Requests go to these addresses, and DNS is not asked. */
  readonly pinned?: Pinned
  /** Requests are refused. */
  readonly maintenance?: Maintenance
}

export interface OtherId {
  readonly id: string
  /** The entry of `zones` that says so. */
  readonly key: string
}

export interface Pinned {
  /** Addresses without the denied ones; empty: all are denied. */
  readonly addresses: Addresses
  readonly denied: readonly string[]
  readonly by: PinnedBy
}

/** The entry of `zones`, or the operator. */
export type PinnedBy = { readonly key: string } | PinnedByOperator

export interface PinnedByOperator {
  readonly who: string
  readonly because: string
  /** Milliseconds since 1970. */
  readonly untilMs: number
}

export interface Maintenance {
  readonly key: string
  /** Callers see it. */
  readonly text: string
  /** From 400 to 599. */
  readonly status: number
  readonly retryAfterSeconds: number | null
}

/** One entry of `zones`, or one pin by command. */
export interface SaidEntry {
  readonly key: string
  /** A service, or a rule with all its services; null: every service. */
  readonly place: string | null
  /** In lower case. */
  readonly ids: readonly string[]
  readonly says: Saying
}

export type Saying =
  | { readonly kind: 'pinned'; readonly addresses: readonly PinnedAddress[]; readonly by: PinnedBy }
  | { readonly kind: 'merged'; readonly as: string }
  | ({ readonly kind: 'maintenance' } & Omit<Maintenance, 'key'>)
  /** For ids that are not in DNS. `ids` has no meaning here. */
  | { readonly kind: 'fallback'; readonly as: string }

export interface PinnedAddress {
  /** Canonical. */
  readonly address: string
  /** Null: the port of the service. */
  readonly port: number | null
}

/** The parts of a service that this file needs. */
export interface SaidService {
  readonly name: string
  readonly rule: string
  readonly port: number
}

export interface SaidOfZones {
  /** @param id in lower case */
  of(service: SaidService, id: string): Said | undefined
  /** The id that gets the requests of ids that are not in DNS. */
  fallbackOf(service: SaidService): OtherId | undefined
  /** The ids that are merged into this one. */
  mergedInto(service: SaidService, id: string): string[]
}

export const NOTHING_SAID: SaidOfZones = {
  of: () => undefined,
  fallbackOf: () => undefined,
  mergedInto: () => [],
}

/**
 * Makes a table by service and id, so that a request costs one look-up. An entry for a service overrides one for its rule,
 * which overrides one for every service. Pins by command override `zones`.
 * @param admit false: zones may not have the address
 */
export function saidOfZones(
  entries: readonly SaidEntry[],
  services: readonly SaidService[],
  admit: (address: string) => boolean,
): SaidOfZones {
  if (entries.length === 0) return NOTHING_SAID
  const names = new Set(services.map(({ name }) => name))
  const inOrder = entries.toSorted((a, b) => rankOf(a, names) - rankOf(b, names))
  const byService = new Map<string, ReadonlyMap<string, Said>>()
  const fallbacks = new Map<string, OtherId>()
  for (const service of services) {
    const own = inOrder.filter((entry) => isFor(entry, service, names))
    byService.set(service.name, saidOfService(own, service, admit))
    for (const { key, says } of own)
      if (says.kind === 'fallback') fallbacks.set(service.name, { id: says.as, key })
  }
  return {
    of: (service, id) => byService.get(service.name)?.get(id),
    fallbackOf: (service) => fallbacks.get(service.name),
    mergedInto: (service, id) =>
      [...(byService.get(service.name) ?? [])].flatMap(([own, { merged }]) =>
        merged?.id === id ? [own] : [],
      ),
  }
}

/** By id. Later entries override earlier ones. */
function saidOfService(
  entries: readonly SaidEntry[],
  service: SaidService,
  admit: (address: string) => boolean,
): Map<string, Said> {
  const table = new Map<string, Said>()
  for (const entry of entries) {
    const said = saidBy(entry, service, admit)
    // A range may include the id that it is merged into.
    for (const id of entry.ids) if (said !== null && said.merged?.id !== id) table.set(id, said)
  }
  // A merged zone takes over the pin or maintenance of the zone that it is merged into.
  for (const [id, { merged }] of table) {
    const { pinned, maintenance } = (merged && table.get(merged.id)) ?? {}
    if (merged !== undefined && (pinned ?? maintenance) !== undefined)
      table.set(id, { merged, ...(pinned && { pinned }), ...(maintenance && { maintenance }) })
  }
  return table
}

const COMMANDS_RANK = 3

function rankOf({ place, says }: SaidEntry, services: ReadonlySet<string>): number {
  const own = place === null ? 0 : services.has(place) ? 2 : 1
  return says.kind === 'pinned' && 'who' in says.by ? own + COMMANDS_RANK : own
}

/**
 * True where an entry applies to a service.
 * @param services names of all services, because a rule may have the name of one
 */
export function isFor(
  { place }: Pick<SaidEntry, 'place'>,
  { name, rule }: SaidService,
  services: ReadonlySet<string>,
): boolean {
  return place === null || place === name || (place === rule && !services.has(place))
}

function saidBy(
  { key, says }: SaidEntry,
  { port }: SaidService,
  admit: (address: string) => boolean,
): Said | null {
  switch (says.kind) {
    case 'merged':
      return { merged: { id: says.as, key } }
    case 'maintenance': {
      const { text, status, retryAfterSeconds } = says
      return { maintenance: { key, text, status, retryAfterSeconds } }
    }
    case 'pinned': {
      const admitted = says.addresses.filter(({ address }) => admit(address))
      const denied = says.addresses.filter(({ address }) => !admit(address)).map(({ address }) => address)
      return { pinned: { addresses: addressesOf(admitted, port), denied, by: says.by } }
    }
    case 'fallback':
      return null
  }
}

/** If one address has a port of its own, all become endpoints. */
function addressesOf(addresses: readonly PinnedAddress[], port: number): Addresses {
  if (addresses.every((each) => each.port === null)) return addresses.map(({ address }) => address)
  return addresses.map((each) => ({
    address: each.address,
    port: each.port ?? port,
    priority: 0,
    weight: 1,
  }))
}
