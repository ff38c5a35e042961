import { type Rules, servicesOf, zoneOfRef } from '../routing/rules.ts'
import type { ColdReason } from '../status/cold-reasons.ts'
import type { ZoneStatus } from '../status/status.ts'
import type { ZoneRef } from '../zones/learned-zones.ts'
import {
  type Move,
  moveOf,
  type Outcome,
  outcomeOf,
  outcomeOfUnknown,
  outcomeText,
  ruleText,
  type World,
} from './outcome.ts'
import { type Sample, SEARCH, samplesOf } from './sample-requests.ts'

/** Zones compared at the same time, because each may wait for DNS. */
const AT_ONCE = 32
/** Ids that stand for one that is not in DNS; several, because idPattern may allow only some. */
const UNKNOWN_IDS = ['999999999', 'zonegate-diff', '9999', '1']
/** Stands for all ids that are not in DNS. */
const ANY_UNKNOWN = '*'

export type LiveZone = Pick<ZoneStatus, 'service' | 'id' | 'requestsPerSecond' | 'route'>

/** What a new configuration would change for a zone in use. */
export interface ZoneDiff extends ZoneRef {
  /** Null for `*`: nobody counts ids that are not in DNS. */
  readonly requestsPerSecond: number | null
  readonly changes: readonly ZoneChange[]
}

export interface ZoneChange {
  /** `cold`: Envoy would ask the processor for its requests, and does not now. */
  readonly change: Move | 'cold'
  /** The kinds of requests that change; absent: all of them. */
  readonly requests?: readonly string[]
  readonly before: string
  readonly after: string
}

export interface ZonesSeams {
  readonly before: World
  readonly after: World
  /** Why the new configuration would not learn a zone that is learned now; null: it would. */
  readonly coldAfter: (zone: ZoneRef, after: Outcome) => ColdReason | null
  readonly onProgress?: (done: number, of: number) => void
}

/** @returns the zones for which something would change, the busiest first */
export async function diffZones(live: readonly LiveZone[], seams: ZonesSeams): Promise<ZoneDiff[]> {
  const { before, after, onProgress } = seams
  const samples = new SamplesOfServices(before.rules, after.rules)
  const busiest = [...live].sort((a, b) => b.requestsPerSecond - a.requestsPerSecond)
  const found: (ZoneDiff | null)[] = []
  let next = 0
  let done = 0
  const work = async (): Promise<void> => {
    for (let at = next++; at < busiest.length; at = next++) {
      const zone = busiest[at] as LiveZone
      const changes = await changesOf(zone, samples.of(zone), seams)
      found[at] =
        changes.length === 0
          ? null
          : { service: zone.service, id: zone.id, requestsPerSecond: zone.requestsPerSecond, changes }
      onProgress?.(++done, busiest.length)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  const unknown = await diffUnknown(live, samples, seams)
  return [...found.filter((each) => each !== null), ...unknown]
}

interface Compared {
  readonly sample: Sample
  readonly move: Move | null
  readonly before: Outcome
  readonly after: Outcome
}

async function changesOf(
  zone: LiveZone,
  samples: readonly Sample[],
  seams: ZonesSeams,
): Promise<ZoneChange[]> {
  if (![seams.before, seams.after].some((world) => hasZone(zone, world.rules))) return []
  if (samples.length === 0)
    return [{ change: 'unknown', before: 'no sample request reaches it', after: 'unknown' }]
  const compared: Compared[] = []
  for (const sample of samples) {
    const head = sample.headOf(zone.id)
    const [before, after] = [await outcomeOf(head, seams.before), await outcomeOf(head, seams.after)]
    compared.push({ sample, move: moveOf(before, after), before, after })
  }
  const cold =
    zone.route === 'cold' || compared.every(({ move }) => move === 'refused')
      ? null
      : coldChange(zone, compared, seams)
  return [...changesIn(compared), ...(cold === null ? [] : [cold])]
}

function hasZone({ service, id }: ZoneRef, rules: Rules): boolean {
  return zoneOfRef(service, id, rules, SEARCH) !== null
}

function coldChange(
  zone: LiveZone,
  compared: readonly Compared[],
  { coldAfter }: ZonesSeams,
): ZoneChange | null {
  for (const { after } of compared) {
    const reason = coldAfter(zone, after)
    if (reason !== null)
      return { change: 'cold', before: 'routed inside Envoy', after: `asks the processor: ${reason}` }
  }
  return null
}

/** Joins equal changes into one. */
function changesIn(compared: readonly Compared[]): ZoneChange[] {
  const changes = new Map<string, ZoneChange & { requests: string[] }>()
  for (const { sample, move, before, after } of compared) {
    if (move === null) continue
    const texts = { change: move, before: outcomeText(before), after: outcomeText(after) }
    const key = JSON.stringify(texts)
    const known = changes.get(key)
    if (known === undefined) changes.set(key, { ...texts, requests: [sample.text] })
    else if (!known.requests.includes(sample.text)) known.requests.push(sample.text)
  }
  return [...changes.values()].map(({ requests, ...change }) =>
    changes.size === 1 && compared.every(({ move }) => move !== null) ? change : { ...change, requests },
  )
}

/** Changes for ids that are not in DNS. The list of live zones does not have them, because a fallback takes their requests. */
async function diffUnknown(
  live: readonly LiveZone[],
  samples: SamplesOfServices,
  { before, after }: ZonesSeams,
): Promise<ZoneDiff[]> {
  const found: ZoneDiff[] = []
  const services = before.rules.flatMap(servicesOf)
  const hasFallback = [before, after].some(({ rules, said }) =>
    rules.flatMap(servicesOf).some((service) => said.fallbackOf(service) !== undefined),
  )
  if (!hasFallback) return []
  for (const service of services) {
    const ids = [...UNKNOWN_IDS, ...live.filter((zone) => zone.service === service.name).map(({ id }) => id)]
    const id = ids.find((each) => {
      const isPlain =
        before.said.of(service, each) === undefined && after.said.of(service, each) === undefined
      return isPlain && samples.isOf(service.name, each)
    })
    if (id === undefined) continue
    const compared: Compared[] = []
    for (const sample of samples.of({ service: service.name, id })) {
      const head = sample.headOf(id)
      const [was, is] = [await outcomeOfUnknown(head, before), await outcomeOfUnknown(head, after)]
      compared.push({ sample, move: moveOf(was, is), before: was, after: is })
    }
    const changes = changesIn(compared)
    if (changes.length > 0)
      found.push({ service: service.name, id: ANY_UNKNOWN, requestsPerSecond: null, changes })
  }
  return found
}

/** Samples, made once for each service: rules tell its zones apart by the id only. */
class SamplesOfServices {
  readonly #before: Rules
  readonly #after: Rules
  readonly #isSame: boolean
  /** By the rules that the requests follow, and the service. */
  readonly #samples = new Map<Rules, Map<string, readonly Sample[]>>()

  constructor(before: Rules, after: Rules) {
    this.#before = before
    this.#after = after
    this.#isSame = before.map(ruleText).join() === after.map(ruleText).join()
  }

  /** A zone that the rules in force no longer have gets the requests that the new rules would send to it. */
  of(zone: ZoneRef): readonly Sample[] {
    const isInForce = hasZone(zone, this.#before) || !hasZone(zone, this.#after)
    return isInForce ? this.#by(this.#before, this.#after, zone) : this.#by(this.#after, this.#before, zone)
  }

  #by(own: Rules, other: Rules, zone: ZoneRef): readonly Sample[] {
    const ofServices = this.#samples.get(own) ?? new Map<string, readonly Sample[]>()
    this.#samples.set(own, ofServices)
    const known = ofServices.get(zone.service)
    if (known !== undefined && known.length > 0) return known
    const all = samplesOf(zone, own, other)
    // If the rules are equal, all requests of a zone change alike: one sample is enough.
    const found = this.#isSame ? all.slice(0, 1) : all
    ofServices.set(zone.service, found)
    return found
  }

  isOf(service: string, id: string): boolean {
    return samplesOf({ service, id }, this.#before, this.#after).length > 0
  }
}
