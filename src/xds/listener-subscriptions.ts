import type { DeltaDiscoveryRequest } from '../grpc/protos.ts'
import { typeUrl } from './resource.ts'

/**
 * Each rendered listener has a filter that does nothing and that Envoy subscribes to over ADS. Envoy subscribes when it has accepted the
 * listener, so the names of its subscriptions show which listeners it uses. It is never answered: the filter has a default.
 */
const TYPE_URL = typeUrl('envoy.config.core.v3.TypedExtensionConfig')

/** Listeners of one Envoy with these names. It keeps a replaced listener for its drain time, so it may have several. */
const LISTENERS_MAX = 1000

/** The names of the listeners that one Envoy uses or still drains. */
export class ListenerSubscriptions {
  readonly names = new Set<string>()

  /** @returns false if the request is about another type of resource */
  receive({
    type_url,
    resource_names_subscribe: added = [],
    resource_names_unsubscribe: removed = [],
  }: DeltaDiscoveryRequest): boolean {
    if (type_url !== TYPE_URL) return false
    for (const name of added) this.names.add(name)
    for (const name of removed) this.names.delete(name)
    return true
  }

  /** True if the Envoy has sent more names than any Envoy needs. */
  get isOverLimit(): boolean {
    return this.names.size > LISTENERS_MAX
  }
}
