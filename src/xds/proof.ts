import { messageCodec } from './envoy-api.ts'
import type { RouteConfiguration, VirtualHost } from './messages.ts'
import { MESSAGE_NAMES } from './resource.ts'
import type { VirtualHostResource } from './virtual-host.ts'

/** Fields of a RouteConfiguration that Envoy checks in the same way as the virtual host's fields of the same names. */
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
 * A RouteConfiguration as virtual hosts that no request can find, because no method has the spaces of their domains. If Envoy accepts them
 * it will accept the file, too. The first has the configuration's fields for all routes, the others are the file's virtual hosts.
 * @param version a new one for each proof
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
