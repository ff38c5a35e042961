import type { DeltaDiscoveryRequest } from '../grpc/protos.ts'
import type { DeltaResponse } from './delta-response.ts'
import { type AtFault, Refusals } from './refusals.ts'
import type { Resource } from './resource.ts'

/**
 * What a client should have under a name: a resource, nothing (`absent`), or what it has until something else has
 * happened (`later`; whoever says so marks the name again).
 */
export type Desired<R extends Resource> = R | 'absent' | 'later'

/** Where a subscription looks up what to send. */
export interface Offer<R extends Resource> {
  /** Every name for which something may be desired. */
  names(): Iterable<string>
  /** @param asked the client waits for an answer about this name */
  desired(name: string, asked: boolean): Desired<R>
  /** How many usual names it is as long to look at as; absent: one. */
  sizeOf?(name: string): number
  /**
   * A name that no resource ever has. Its removal tells a client that starts that there is nothing: Envoy passes an
   * empty response on to watchers of everything, but not to those of a namespace (its class WatchMap), and what waits
   * for such a one, a listener for its virtual hosts, would wait until `initial_fetch_timeout`.
   */
  readonly noneOf?: () => string
}

/** What a request meant. */
export type Received<R extends Resource> =
  /** A change of the subscription, or an answer to a response that is settled already. */
  | { readonly kind: 'request' }
  | { readonly kind: 'ack'; readonly updated: readonly R[]; readonly removed: readonly string[] }
  | {
      readonly kind: 'nack'
      /** The client's own text. */
      readonly message: string
      readonly updated: readonly R[]
      readonly removed: readonly string[]
      /** Undefined while it is searched for among several. */
      readonly atFault: AtFault<R> | undefined
    }

/** What a client has under a name: a version, and the resource where it was sent on this stream. */
export interface Held<R extends Resource> {
  readonly version: string
  readonly resource?: R
}

interface InFlight<R extends Resource> {
  readonly nonce: string
  readonly updated: ReadonlyMap<string, R>
  readonly removed: ReadonlySet<string>
  readonly isSearch: boolean
}

/** So many names are looked at for one response: what looks at them holds the event loop. */
const NAMES_PER_LOOK_MAX = 500

const WILDCARD = '*'
/** In place of the version of what a client was told to remove in a response that it refused. */
const MAY_BE_GONE = ''

/**
 * The server's side of one resource type on one delta xDS stream, without the stream: requests go in, at most one
 * response at a time comes out. References in quotes are to headings of Envoy's document "xDS REST and gRPC protocol".
 *
 * One response in flight keeps the protocol simple and the memory bounded: while the client is busy, names gather in a
 * set, and what is sent next is their latest state.
 */
export class Subscription<R extends Resource = Resource> {
  /** Acknowledged by the client. */
  readonly held = new Map<string, Held<R>>()

  readonly #typeUrl: string
  readonly #offer: Offer<R>
  readonly #resourcesMax: number
  #started = false
  #wildcard = false
  readonly #named = new Set<string>()
  #namedOctets = 0
  /** Names whose desired state may differ from the client's. */
  readonly #dirty = new Set<string>()
  /** Names that must be answered, whatever the client has. */
  readonly #owed = new Set<string>()
  readonly #refusals = new Refusals<R>()
  /** Of a response that it refuses a client may take over what is acceptable, as Envoy does with clusters. */
  readonly #uncertain = new Set<string>()
  /** Of all names, those that are still to be looked at. */
  #rest: Iterator<string> | undefined
  /** Suspects and all others take turns, so that neither keeps the other waiting. */
  #isSearchesTurn = false
  /** A response is due even if there is nothing to say. */
  #replyOwed = false
  #inFlight: InFlight<R> | undefined
  #responses = 0

  /** @param resourcesMax in one response; what is left follows in the next */
  constructor(typeUrl: string, offer: Offer<R>, resourcesMax: number) {
    this.#typeUrl = typeUrl
    this.#offer = offer
    this.#resourcesMax = resourcesMax
  }

  /** True once the client has asked for this type. */
  get started(): boolean {
    return this.#started
  }

  get inFlight(): boolean {
    return this.#inFlight !== undefined
  }

  /** True where there may be something to send now. */
  get pending(): boolean {
    return this.#dirty.size > 0 || this.#replyOwed || this.#rest !== undefined
  }

  /** When there may be something to send, without a request or a change. */
  wakeAtMs(): number {
    return this.pending ? Number.NEGATIVE_INFINITY : this.#refusals.wakeAtMs()
  }

  /** What is kept because the client has named it. */
  get namesCount(): number {
    return this.#named.size
  }

  /** Of these names. */
  get namesOctets(): number {
    return this.#namedOctets
  }

  /** True for what the client has refused, and not accepted since. */
  refuses(name: string): boolean {
    return this.#refusals.isAtFault(name)
  }

  get rejectedCount(): number {
    return this.#refusals.size
  }

  /** True for what the client has acknowledged, and wasn't told to remove. */
  holds(name: string): boolean {
    const held = this.held.get(name)
    return held !== undefined && held.version !== MAY_BE_GONE && !this.#inFlight?.removed.has(name)
  }

  /** What a response under way carries under a name. */
  inFlightOf(name: string): R | undefined {
    return this.#inFlight?.updated.get(name)
  }

  /** True where a response under way carries the name. */
  isInFlight(name: string): boolean {
    return this.#inFlight?.updated.has(name) ?? false
  }

  /** Says that the desired state of a name may have changed. */
  mark(name: string): void {
    if (this.#wants(name)) this.#dirty.add(name)
  }

  /** Says that the desired state of every name may have changed. Costs nothing now, and little at each response. */
  markAll(): void {
    if (this.#started) this.#rest = this.#everyName()
  }

  /** Says that what was refused may be acceptable now. */
  forgetRefusals(): void {
    for (const name of this.#refusals.names()) this.mark(name)
    this.#refusals.forgetAll()
  }

  /** Has a name sent again even if the client has its version. */
  resend(name: string): void {
    if (!this.#wants(name)) return
    this.#owed.add(name)
    this.#dirty.add(name)
  }

  /** Says that the client has dropped a name by itself, though it may still be subscribed. */
  forget(name: string): void {
    this.held.delete(name)
    this.#uncertain.delete(name)
    this.#refusals.forget(name)
  }

  receive(request: DeltaDiscoveryRequest, nowMs: number): Received<R> {
    const first = !this.#started
    this.#started = true
    const received = this.#settle(request, nowMs)
    const subscribe = request.resource_names_subscribe ?? []
    const unsubscribe = request.resource_names_unsubscribe ?? []

    // "How the client specifies what resources to return": a client that names nothing at first means everything.
    // Only the first request can say so: an ACK names nothing either.
    if (first && subscribe.length === 0 && unsubscribe.length === 0) this.#subscribeAll()
    // "Incremental xDS": changes of the subscription count even where the nonce is stale.
    for (const name of subscribe) this.#subscribe(name)
    for (const name of unsubscribe) this.#unsubscribe(name)
    // "Incremental xDS": on reconnect the client says what it has; before that nothing of it is known.
    if (first) this.#recognise(request.initial_resource_versions ?? {})
    return received
  }

  /** Takes what is left of a request that came in parts, before anything is answered. @param first it was the first one */
  receiveMore(request: DeltaDiscoveryRequest, first: boolean): void {
    for (const name of request.resource_names_subscribe ?? []) this.#subscribe(name)
    for (const name of request.resource_names_unsubscribe ?? []) this.#unsubscribe(name)
    if (first) this.#recognise(request.initial_resource_versions ?? {})
  }

  /** The next response, if one is due and none is under way. */
  next(nowMs: number): DeltaResponse<R> | undefined {
    if (this.#inFlight !== undefined || !this.#started) return undefined
    if (this.#isSearchesTurn) return this.#search(nowMs) ?? this.#latest()
    return this.#latest() ?? this.#search(nowMs)
  }

  /** What has changed, but for what is suspected. */
  #latest(): DeltaResponse<R> | undefined {
    const updated = new Map<string, R>()
    const removed = new Set<string>()
    let size = 0
    for (const name of this.#namesToLookAt()) {
      if (!this.#wants(name)) {
        this.#owed.delete(name)
        continue
      }
      const desired = this.#offer.desired(name, this.#owed.has(name))
      if (desired === 'later') continue
      if (desired === 'absent') {
        // "Knowing When a Requested Resource Does Not Exist": a name asked for is answered by its removal.
        if (this.held.has(name) || this.#owed.has(name) || this.#uncertain.has(name)) removed.add(name)
        this.#refusals.forget(name)
      } else if (this.#refusals.isSuspect(name)) {
        if (!this.#refusals.rests(desired)) this.#refusals.suspect(name)
        else this.#owed.delete(name)
        continue
      } else if (this.#isDue(desired)) {
        updated.set(name, desired)
        size += desired.size ?? 1
      }
      this.#owed.delete(name)
      if (size + removed.size >= this.#resourcesMax) break
    }
    if (updated.size === 0 && removed.size === 0) {
      if (!this.#replyOwed) return undefined
      if (this.#offer.noneOf !== undefined && this.#isEmpty()) removed.add(this.#offer.noneOf())
    }
    this.#replyOwed = false
    return this.#response(updated, removed, false)
  }

  /** What was refused with others, or has rested: without anything else beside it. */
  #search(nowMs: number): DeltaResponse<R> | undefined {
    for (;;) {
      const names = this.#refusals.next(this.#resourcesMax, nowMs)
      if (names.length === 0) return undefined
      const updated = new Map<string, R>()
      for (const name of names) {
        if (!this.#wants(name)) continue
        const desired = this.#offer.desired(name, this.#owed.has(name))
        if (desired === 'later') continue
        if (desired === 'absent') this.resend(name)
        else if (this.#isDue(desired)) {
          updated.set(name, desired)
          this.#owed.delete(name)
        } else this.#refusals.forget(name)
      }
      if (updated.size > 0) return this.#response(updated, new Set(), true)
    }
  }

  #response(
    updated: ReadonlyMap<string, R>,
    removed: ReadonlySet<string>,
    isSearch: boolean,
  ): DeltaResponse<R> {
    this.#isSearchesTurn = !isSearch
    this.#responses += 1
    const nonce = String(this.#responses)
    this.#inFlight = { nonce, updated, removed, isSearch }
    return { typeUrl: this.#typeUrl, nonce, updated: [...updated.values()], removed: [...removed] }
  }

  /** Takes names to look at: those that have changed, then of all those that are left, only so many. */
  *#namesToLookAt(): Iterable<string> {
    let looked = 0
    const sizeOf = (name: string): number => this.#offer.sizeOf?.(name) ?? 1
    for (const name of this.#dirty) {
      if (looked >= NAMES_PER_LOOK_MAX) return
      looked += sizeOf(name)
      this.#dirty.delete(name)
      yield name
    }
    while (this.#rest !== undefined && looked < NAMES_PER_LOOK_MAX) {
      const { done, value } = this.#rest.next()
      if (done === true) this.#rest = undefined
      else {
        looked += sizeOf(value)
        yield value
      }
    }
  }

  *#everyName(): Generator<string> {
    yield* this.held.keys()
    yield* this.#offer.names()
  }

  /** True where neither side has anything, now or soon. */
  #isEmpty(): boolean {
    const [any] = this.#offer.names()
    return any === undefined && this.held.size === 0
  }

  #isDue(desired: R): boolean {
    const { name } = desired
    if (this.#owed.has(name) || this.#uncertain.has(name)) return true
    return this.held.get(name)?.version !== desired.version
  }

  /** "ACK/NACK and resource type instance version": a request with the nonce of the response under way settles it. */
  #settle(request: DeltaDiscoveryRequest, nowMs: number): Received<R> {
    const inFlight = this.#inFlight
    // "Incremental xDS": a nonce pairs a request with a response. Any other nonce is of a response settled before.
    if (inFlight === undefined || request.response_nonce !== inFlight.nonce) return { kind: 'request' }
    this.#inFlight = undefined
    const updated = [...inFlight.updated.values()]
    const removed = [...inFlight.removed]
    if (inFlight.isSearch) this.#refusals.searched(request.error_detail === undefined, nowMs)
    if (request.error_detail === undefined) {
      for (const resource of updated) this.#acknowledge(resource)
      for (const name of removed) this.forget(name)
      return { kind: 'ack', updated, removed }
    }
    // "ACK and NACK semantics summary": a refused version is refused again. Which of several it was nobody says.
    const wanted = updated.filter(({ name }) => this.#wants(name))
    const atFault = this.#refusals.refuse(wanted, nowMs)
    if (wanted.length > 1) for (const { name } of wanted) this.#uncertain.add(name)
    // A removal can't be wrong: it was refused for the company it kept, and goes again without it.
    for (const name of removed) {
      if (!this.#wants(name)) continue
      if (updated.length === 0) this.#refusals.refuseRemoval(name, nowMs)
      else {
        if (this.held.has(name)) this.held.set(name, { version: MAY_BE_GONE })
        this.#dirty.add(name)
      }
    }
    return { kind: 'nack', message: request.error_detail.message ?? '', updated, removed, atFault }
  }

  #acknowledge(resource: R): void {
    this.#refusals.forget(resource.name)
    this.#uncertain.delete(resource.name)
    if (this.#wants(resource.name)) this.held.set(resource.name, { version: resource.version, resource })
  }

  #wants(name: string): boolean {
    return this.#wildcard || this.#named.has(name)
  }

  #subscribeAll(): void {
    this.#wildcard = true
    this.markAll()
    // What is on its way may have been withdrawn while nobody wanted it.
    for (const name of this.#inFlight?.updated.keys() ?? []) this.#dirty.add(name)
    // A client that starts waits for the answer, be it that there is nothing.
    this.#replyOwed = true
  }

  #subscribe(name: string): void {
    if (name === WILDCARD) {
      this.#subscribeAll()
      return
    }
    if (!this.#named.has(name)) this.#namedOctets += name.length
    this.#named.add(name)
    // "Subscribing to Resources": sent even if the client should have it: it may have forgotten it.
    this.#refusals.forget(name)
    this.resend(name)
  }

  #unsubscribe(name: string): void {
    if (name === WILDCARD) {
      this.#wildcard = false
      for (const known of [...this.held.keys(), ...this.#refusals.names()])
        if (!this.#wants(known)) this.forget(known)
      return
    }
    // "Unsubscribing from Resources": phantom unsubscriptions are ignored, and nothing need be answered ...
    if (!this.#named.delete(name)) return
    this.#namedOctets -= name.length
    // ... unless the wildcard may cover the name: then only an answer tells the client whether to keep it.
    if (this.#wildcard) this.resend(name)
    else this.forget(name)
  }

  #recognise(versions: Readonly<Record<string, string>>): void {
    for (const [name, version] of Object.entries(versions)) {
      if (!this.#wants(name)) continue
      this.held.set(name, { version })
      // "On reconnect": known versions are not sent again.
      this.#owed.delete(name)
      this.#dirty.add(name)
    }
  }
}
