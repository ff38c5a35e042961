import type { DeltaDiscoveryRequest } from '../grpc/protos.ts'
import type { DeltaResponse } from './delta-response.ts'
import { type AtFault, Refusals } from './refusals.ts'
import type { Resource } from './resource.ts'

/**
 * What a client should have under a name: a resource, nothing (`absent`), or for now what it has already (`later`; whoever
 * returns this calls `mark` when it is time).
 */
export type Desired<R extends Resource> = R | 'absent' | 'later'

/** Where a subscription looks up what to send. */
export interface Offer<R extends Resource> {
  /** Every name that may have a resource. */
  names(): Iterable<string>
  /** @param asked the client waits for an answer about this name */
  desired(name: string, asked: boolean): Desired<R>
  /** How much work `desired` is for this name, in ordinary names; absent: 1. */
  sizeOf?(name: string): number
  /**
   * A name that no resource ever has. If there is nothing to send to a client that starts, the response removes this name.
   * Envoy does not pass an empty response on to watchers of a namespace (its class WatchMap), so a listener would wait for its
   * virtual hosts until `initial_fetch_timeout`.
   */
  readonly noneOf?: () => string
}

/** What a request meant. */
export type Received<R extends Resource> =
  /** A change of the subscription, or an answer to an older response. */
  | { readonly kind: 'request' }
  | { readonly kind: 'ack'; readonly updated: readonly R[]; readonly removed: readonly string[] }
  | {
      readonly kind: 'nack'
      /** The client's own text. */
      readonly message: string
      readonly updated: readonly R[]
      readonly removed: readonly string[]
      /** The resource that the client refused; undefined while it is not known which of several it was. */
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

/** Names looked at for one response. Looking at them blocks the event loop. */
const NAMES_PER_LOOK_MAX = 500

const WILDCARD = '*'
/** In place of a version: the client refused a response that was to remove the resource, so it may or may not have it. */
const MAY_BE_GONE = ''

/**
 * The server's side of one resource type on one delta xDS stream, without the stream: requests go in, at most one
 * response at a time comes out. Texts in quotes are headings of Envoy's document "xDS REST and gRPC protocol".
 *
 * One response in flight keeps the protocol simple and the memory bounded: while the client is busy, changed names are
 * collected in a set, and the next response has their latest state.
 */
export class Subscription<R extends Resource = Resource> {
  /** What the client has acknowledged, by name. */
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
  /** Names that must be answered even if the client has their latest state. */
  readonly #owed = new Set<string>()
  readonly #refusals = new Refusals<R>()
  /** Names of refused responses. The client may have applied the acceptable part of one, as Envoy does with clusters. */
  readonly #uncertain = new Set<string>()
  /** After `markAll`: the names that are still to be looked at. */
  #rest: Iterator<string> | undefined
  /** Responses with suspects and ordinary responses take turns, so that neither keeps the other waiting. */
  #isSearchesTurn = false
  /** A response is due even if it is empty. */
  #replyOwed = false
  #inFlight: InFlight<R> | undefined
  #responses = 0

  /** @param resourcesMax resources in one response; the others follow in the next ones */
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

  /** When there may be something to send although no request came and nothing changed. */
  wakeAtMs(): number {
    return this.pending ? Number.NEGATIVE_INFINITY : this.#refusals.wakeAtMs()
  }

  /** How many names the client has subscribed to. */
  get namesCount(): number {
    return this.#named.size
  }

  /** Characters of these names. */
  get namesOctets(): number {
    return this.#namedOctets
  }

  /** True if the client has refused the resource and has not accepted it since. */
  refuses(name: string): boolean {
    return this.#refusals.isAtFault(name)
  }

  get rejectedCount(): number {
    return this.#refusals.size
  }

  /** True if the client has acknowledged the resource and was not told to remove it. */
  holds(name: string): boolean {
    const held = this.held.get(name)
    return held !== undefined && held.version !== MAY_BE_GONE && !this.#inFlight?.removed.has(name)
  }

  /** The resource of this name in the response in flight. */
  inFlightOf(name: string): R | undefined {
    return this.#inFlight?.updated.get(name)
  }

  /** True if the response in flight has a resource of this name. */
  isInFlight(name: string): boolean {
    return this.#inFlight?.updated.has(name) ?? false
  }

  /** Call it when the desired state of a name may have changed. */
  mark(name: string): void {
    if (this.#wants(name)) this.#dirty.add(name)
  }

  /** Call it when the desired state of every name may have changed. The names are looked at bit by bit, at each response. */
  markAll(): void {
    if (this.#started) this.#rest = this.#everyName()
  }

  /** Call it when the client may accept what it refused before. */
  forgetRefusals(): void {
    for (const name of this.#refusals.names()) this.mark(name)
    this.#refusals.forgetAll()
  }

  /** Sends a name again even if the client has its version. */
  resend(name: string): void {
    if (!this.#wants(name)) return
    this.#owed.add(name)
    this.#dirty.add(name)
  }

  /** Call it when the client has dropped a resource by itself, though it may still be subscribed to it. */
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

    // "How the client specifies what resources to return": a first request without names subscribes to everything. In later
    // ones it means nothing: an ACK has no names either.
    if (first && subscribe.length === 0 && unsubscribe.length === 0) this.#subscribeAll()
    // "Incremental xDS": changes of the subscription count even where the nonce is stale.
    for (const name of subscribe) this.#subscribe(name)
    for (const name of unsubscribe) this.#unsubscribe(name)
    // "Incremental xDS": after a reconnect the first request says what the client has.
    if (first) this.#recognise(request.initial_resource_versions ?? {})
    return received
  }

  /** Takes a further part of a request, before anything is answered. @param first whether that request was the first one */
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

  /** A response with what has changed, without suspects. */
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
        // "Knowing When a Requested Resource Does Not Exist": the answer to a name without a resource is its removal.
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

  /** A response with suspects only: resources refused together with others, or refused long enough ago to be tried again. */
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

  /** Takes the next names to look at: first those marked one by one, then those left of `markAll`. */
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

  /** True if there is nothing to offer and the client has nothing. */
  #isEmpty(): boolean {
    const [any] = this.#offer.names()
    return any === undefined && this.held.size === 0
  }

  #isDue(desired: R): boolean {
    const { name } = desired
    if (this.#owed.has(name) || this.#uncertain.has(name)) return true
    return this.held.get(name)?.version !== desired.version
  }

  /** "ACK/NACK and resource type instance version": a request with the nonce of the response in flight is its answer. */
  #settle(request: DeltaDiscoveryRequest, nowMs: number): Received<R> {
    const inFlight = this.#inFlight
    // "Incremental xDS": a nonce pairs a request with a response. Any other nonce belongs to an older response.
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
    // "ACK and NACK semantics summary": the client would refuse the same version again. It does not say which of several it was.
    const wanted = updated.filter(({ name }) => this.#wants(name))
    const atFault = this.#refusals.refuse(wanted, nowMs)
    if (wanted.length > 1) for (const { name } of wanted) this.#uncertain.add(name)
    // A removal can't be at fault. It was refused because of the resources beside it, so it is sent again without them.
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
    // The resources in flight may have changed while the client was not subscribed to them.
    for (const name of this.#inFlight?.updated.keys() ?? []) this.#dirty.add(name)
    // A client that starts waits for an answer, even an empty one.
    this.#replyOwed = true
  }

  #subscribe(name: string): void {
    if (name === WILDCARD) {
      this.#subscribeAll()
      return
    }
    if (!this.#named.has(name)) this.#namedOctets += name.length
    this.#named.add(name)
    // "Subscribing to Resources": sent even if the client should have it, because it may have forgotten it.
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
    // "Unsubscribing from Resources": phantom unsubscriptions are ignored, and no answer is needed ...
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
