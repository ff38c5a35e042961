import { messageCodec } from './envoy-api.ts'
import type { RouteConfiguration, VirtualHost } from './messages.ts'
import { MESSAGE_NAMES } from './resource.ts'
import type { VirtualHostResource } from './virtual-host.ts'

/** Fields of a RouteConfiguration that Envoy reads and judges as the virtual host's fields of the same names. */
export const PROVED_AS_VIRTUAL_HOST = [
  'request_headers_to_add',
  'request_headers_to_remove',
  'response_headers_to_add',
  'response_headers_to_remove',
  'typed_per_filter_config',
  'metadata',
] as const

/** No id has a dot. */
const PROOF_ID = '.proof'

const { encode } = messageCodec<VirtualHost>(MESSAGE_NAMES.virtualHost)

/**
 * A RouteConfiguration as virtual hosts that no request finds, as a method has no space: what Envoy says of them, it would
 * say of the file. One has what the configuration says of all routes, each of the others a virtual host of the file.
 * @param version another one for each proof
 */
export function proofOf(configuration: RouteConfiguration, version: string): VirtualHostResource[] {
  const common: VirtualHost = Object.fromEntries(
    PROVED_AS_VIRTUAL_HOST.flatMap((field) =>
      configuration[field] === undefined ? [] : [[field, configuration[field]]],
    ),
  )
  const hosts: readonly VirtualHost[] = [{ ...common, domains: [''] }, ...(configuration.virtual_hosts ?? [])]
  return hosts.map((host, index) => {
    // Envoy ignores the removal of a virtual host whose name doesn't begin with the route configuration's.
    const name = `${configuration.name}/${PROOF_ID}${index}`
    const domains = host.domains?.map((domain) => `zonegate ${PROOF_ID}${index} ${domain} .`)
    const bytes = encode({ ...host, name, ...(domains && { domains }) })
    return { name, version, services: new Set(), encode: () => bytes }
  })
}
