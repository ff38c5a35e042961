import { type Config, hostPortOf, parseAddressPort } from '../config/schema.ts'
import type { Addresses, HostPort } from './render.ts'

/** Where a launcher has Envoy listen, for the processor that renders Envoy's files: above what they say. */
export const LISTEN_VARIABLE = 'ZONEGATE_ENVOY_LISTEN'
export const ADMIN_VARIABLE = 'ZONEGATE_ENVOY_ADMIN'

/** @throws Error naming the variable that is no address and port */
export function addressesOf({ listen: { grpc } }: Config, environment: NodeJS.ProcessEnv): Addresses {
  return {
    processor: grpc.startsWith('unix:') ? grpc : hostPortOf(grpc),
    listen: addressIn(environment, LISTEN_VARIABLE),
    admin: addressIn(environment, ADMIN_VARIABLE),
  }
}

function addressIn(environment: NodeJS.ProcessEnv, name: string): HostPort | undefined {
  const text = environment[name] ?? ''
  if (text === '') return undefined
  const parsed = parseAddressPort(text)
  if (parsed === null) throw new Error(`${name}: expected address:port, like 127.0.0.1:8101, got "${text}"`)
  return parsed
}
