import { withoutSecrets } from '../config/changes.ts'
import type { ConfigOutcome } from '../config/live-config.ts'
import type { Config } from '../config/schema.ts'
import { type Addresses, type Answer, areEndpoints } from '../dns/answer.ts'
import type { DnsEvent } from '../dns/events.ts'
import { TokenBucket } from '../dns/token-bucket.ts'
import type { SeenRequest } from '../ext-proc/messages.ts'
import type { AnswerText, HistoryEvent } from '../history/event.ts'
import { RefusalSample } from '../history/refusal-sample.ts'
import type { Pin } from '../pins/pins.ts'
import { authorityOf, type Decision } from '../routing/decision.ts'
import { pathOf } from '../routing/rules.ts'
import type { EnvoyEvent } from '../xds/envoy-stream.ts'
import type { ZoneChange, ZoneRef } from '../zones/learned-zones.ts'
import type { EnvoyFilesEvent } from './told-files.ts'

/** Limits on first answers of new names. A scan under a wildcard record would fill the history with them. */
const NEW_NAMES_BURST = 5000
const NEW_NAMES_PER_SECOND = 20
/** Limits on names that are not in DNS, of zones with a fallback. A scan would fill the history with them. */
const ABSENT_NAMES_BURST = 500
const ABSENT_NAMES_PER_SECOND = 5
const REQUEST_ID_LENGTH_MAX = 128
/** As in Envoy's access log. */
const METHOD_LENGTH_MAX = 32
const HOST_LENGTH_MAX = 255
const PATH_LENGTH_MAX = 512
const TRIES_SHOWN = 4

/** Records the events of the processor's parts in its history. */
export class HistoryRecorder {
  readonly #write: (event: HistoryEvent) => void
  /** Events that wait for the event of their cause. Null: none has to. */
  #held: HistoryEvent[] | null = null
  readonly #sample: RefusalSample
  readonly #newNames: TokenBucket
  readonly #absentNames: TokenBucket
  readonly #hasFallback: () => boolean

  /**
   * @param now monotonic, milliseconds
   * @param hasFallback true while `zones` sends ids that are not in DNS to another zone
   */
  constructor(record: (event: HistoryEvent) => void, now: () => number, hasFallback: () => boolean) {
    this.#write = record
    this.#hasFallback = hasFallback
    this.#absentNames = new TokenBucket(ABSENT_NAMES_PER_SECOND, ABSENT_NAMES_BURST, now)
    this.#sample = new RefusalSample(now)
    this.#newNames = new TokenBucket(NEW_NAMES_PER_SECOND, NEW_NAMES_BURST, now)
  }

  started(
    config: Config,
    about: Omit<Extract<HistoryEvent, { kind: 'started' }>, 'kind' | 'config' | 'fallback'>,
  ): void {
    this.#record({
      kind: 'started',
      ...about,
      fallback: config.fallback.enabled,
      config: withoutSecrets(config),
    })
  }

  stopped(why: string): void {
    this.#record({ kind: 'stopped', why })
  }

  /** Call it before a configuration is applied, and `config` afterwards. Events in between are recorded after the configuration's. */
  holdUntilConfig(): void {
    this.#held ??= []
  }

  config(file: string, outcome: ConfigOutcome): void {
    const held = this.#held ?? []
    this.#held = null
    if ('faults' in outcome) this.#record({ kind: 'config_refused', file, faults: outcome.faults })
    else if (outcome.changes.length > 0) this.#record({ kind: 'config', file, changes: outcome.changes })
    for (const event of held) this.#record(event)
  }

  envoy(event: EnvoyEvent): void {
    this.#record(event)
  }

  envoyFiles(event: EnvoyFilesEvent): void {
    this.#record(event)
  }

  pin(kind: 'pinned' | 'unpinned' | 'pin_over', pin: Pin): void {
    this.#record({ kind, ...pin })
  }

  dns(event: DnsEvent): void {
    switch (event.kind) {
      case 'answer_changed':
        this.#answer(event)
        return
      case 'nameserver_failing':
        this.#record({ kind: event.kind, nameserver: event.nameserver, outcome: event.outcome })
        return
      case 'nameserver_recovered':
        this.#record({ kind: event.kind, nameserver: event.nameserver })
        return
      case 'resolv_conf_loaded': {
        const { nameservers, nameserversFrom: from, search } = event
        this.#record({ kind: 'nameservers', nameservers, search, from })
        return
      }
    }
  }

  /** @param wasLearned true if the zone was learned by the previous configuration: no event then */
  zone({ service, id }: ZoneRef, change: ZoneChange, name: string, wasLearned: boolean): void {
    if (wasLearned) return
    const kind = change === 'learned' || change === 'adopted' ? 'learned' : 'forgotten'
    this.#record({ kind, zone: `${service}/${id}`, name, why: change })
  }

  refused(
    decision: Extract<Decision, { kind: 'reject' }>,
    { requestId, method, authority, path }: SeenRequest,
  ): void {
    const { reason, zone, rule, answer } = decision
    const of = zone === undefined ? '' : `${zone.service.name}/${zone.id}`
    const leftOut = this.#sample.take(reason, of)
    if (leftOut === null) return
    this.#record({
      kind: 'refused',
      reason,
      ...(rule !== undefined && { rule: rule.name }),
      ...(zone !== undefined && { zone: of, name: zone.name }),
      requestId: requestId.slice(0, REQUEST_ID_LENGTH_MAX),
      method: method.slice(0, METHOD_LENGTH_MAX),
      host: authority.slice(0, HOST_LENGTH_MAX),
      path: pathOf(path).slice(0, PATH_LENGTH_MAX),
      leftOut,
      ...(answer !== undefined && { dns: whatDnsSaid(answer) }),
    })
  }

  #record(event: HistoryEvent): void {
    if (this.#held === null) this.#write(event)
    else this.#held.push(event)
  }

  #answer({ name, answer, before, nameserver }: Extract<DnsEvent, { kind: 'answer_changed' }>): void {
    if (before === null && !this.#isToldFirst(answer)) return
    this.#record({
      kind: 'answer',
      name,
      ...answerText(answer),
      ...(nameserver !== undefined && { nameserver }),
      before: before === null ? null : answerText(before),
    })
  }

  /**
   * Whether to record the first answer of a name. Usually the event of a refusal shows that a name is not in DNS, but zones
   * with a fallback refuse nothing.
   */
  #isToldFirst({ kind }: Answer): boolean {
    if (kind === 'positive') return this.#newNames.take()
    return kind === 'nxdomain' && this.#hasFallback() && this.#absentNames.take()
  }
}

function answerText(answer: Answer): AnswerText {
  switch (answer.kind) {
    case 'positive': {
      const { addresses, denied, ttlSeconds } = answer
      const more = denied.length > 0 && { denied }
      return { result: 'positive', addresses: addressTexts(addresses), ...more, ttlSeconds }
    }
    case 'failure':
      return { result: 'failure', addresses: [], cause: causeText(answer) }
    default:
      return {
        result: answer.kind,
        addresses: [],
        nameserver: answer.nameserver,
        ttlSeconds: answer.ttlSeconds,
      }
  }
}

function addressTexts(addresses: Addresses): string[] {
  return areEndpoints(addresses) ? addresses.map((each) => authorityOf(each, 0)) : [...addresses]
}

function causeText({ cause, tries }: Extract<Answer, { kind: 'failure' }>): string {
  const told = tries.slice(-TRIES_SHOWN).map(({ nameserver, outcome }) => `${nameserver} ${outcome}`)
  return told.length === 0 ? cause : `${cause}: ${[...new Set(told)].join(', ')}`
}

function whatDnsSaid(answer: Answer): string {
  switch (answer.kind) {
    case 'positive':
      return `denied ${answer.denied.join(', ')}`
    case 'failure':
      return causeText(answer)
    default:
      return `${answer.kind === 'nxdomain' ? 'NXDOMAIN' : 'NODATA'} by ${answer.nameserver}`
  }
}
