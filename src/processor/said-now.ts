import type { Config } from '../config/schema.ts'
import { parseZones, saidEntries } from '../config/zones.ts'
import type { Pins } from '../pins/pins.ts'
import { addressPolicy } from '../routing/denied-addresses.ts'
import { type Rules, servicesOf } from '../routing/rules.ts'
import {
  isFor,
  type Said,
  type SaidEntry,
  type SaidOfZones,
  type SaidService,
  saidOfZones,
} from '../routing/said.ts'
import type { ZoneRef } from '../zones/learned-zones.ts'

/** What one configuration and the current pins say of zones. */
export class SaidNow {
  readonly #entries: readonly SaidEntry[]
  readonly #services: readonly SaidService[]
  readonly #admit: (address: string) => boolean
  readonly #pins: Pick<Pins, 'entries'>
  #current: SaidOfZones

  constructor({ zones, addresses }: Config, rules: Rules, pins: Pick<Pins, 'entries'>) {
    this.#entries = saidEntries(zones)
    this.#services = rules.flatMap(servicesOf)
    this.#admit = addressPolicy(addresses.allow)
    this.#pins = pins
    this.#current = this.#made()
  }

  readonly now = (): SaidOfZones => this.#current

  /** What is said of one zone. @param id in lower case */
  of(service: string, id: string): Said | undefined {
    const known = this.#services.find(({ name }) => name === service)
    return known && this.#current.of(known, id)
  }

  /**
   * Called when pins have been set or removed.
   * @param pinned their zones, as in `zones` of zonegate.yaml
   * @returns the zones that may be affected
   */
  renew(pinned: readonly string[]): ZoneRef[] {
    this.#current = this.#made()
    const names = new Set(this.#services.map(({ name }) => name))
    return pinned.flatMap((key) => {
      const zones = parseZones(key)
      if (typeof zones === 'string') return []
      const services = this.#services.filter((service) => isFor(zones, service, names))
      return services.flatMap((service) =>
        zones.ids
          .flatMap((id) => [id, ...this.#current.mergedInto(service, id)])
          .map((id) => ({ service: service.name, id })),
      )
    })
  }

  #made(): SaidOfZones {
    return saidOfZones([...this.#entries, ...this.#pins.entries()], this.#services, this.#admit)
  }
}
