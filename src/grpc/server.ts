import { mkdirSync, statSync, unlinkSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'

export type Service = readonly [ServiceDefinition, UntypedServiceImplementation]

/** Mode of the Unix socket: owner and group, nobody else. Envoy and the processor share a group. */
const SOCKET_UMASK = 0o117
/** A Unix socket's path, octets, with its final NUL (unix(7), sun_path). */
const SOCKET_PATH_MAX = 107

export interface GrpcServer {
  /** The port of a TCP listener; 1 for a Unix socket. */
  readonly port: number
  /** Refuses new streams, lets those in flight end for `graceMs`, destroys what is left then. */
  drain(graceMs: number): Promise<void>
}

/**
 * Binds and serves.
 * @param listen `unix:PATH`, relative to the working directory, or `host:port`
 * @throws Error with what to do, where the address can't be had
 */
export async function serveGrpc(listen: string, services: readonly Service[]): Promise<GrpcServer> {
  const server = new Server()
  for (const [definition, implementation] of services) server.addService(definition, implementation)

  const path = listen.startsWith('unix:') ? listen.slice('unix:'.length) : null
  if (path !== null) await prepareSocket(path)
  const port = await bind(server, listen, path !== null)
  return { port, drain: (graceMs) => drain(server, graceMs) }
}

function bind(server: Server, listen: string, isSocket: boolean): Promise<number> {
  // The socket is created with its mode: between a bind and a chmod anyone could connect.
  const before = isSocket ? process.umask(SOCKET_UMASK) : undefined
  return new Promise<number>((resolve, reject) => {
    server.bindAsync(listen, ServerCredentials.createInsecure(), (error, port) => {
      if (before !== undefined) process.umask(before)
      if (error) reject(new Error(`listen.grpc: can't listen on ${listen}: ${error.message}`))
      else resolve(port)
    })
  })
}

/** Makes the socket's folder, and removes the socket of a processor that was killed: only if nobody answers on it. */
async function prepareSocket(path: string): Promise<void> {
  if (Buffer.byteLength(path) > SOCKET_PATH_MAX) {
    throw new Error(
      `listen.grpc: ${path} is longer than the ${SOCKET_PATH_MAX} bytes of a socket's path; use a relative or shorter one`,
    )
  }
  mkdirSync(dirname(path), { recursive: true })
  const stats = statSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return
  if (!stats.isSocket())
    throw new Error(`listen.grpc: ${path} is there and is no socket; remove it or name another path`)
  if (await answers(path))
    throw new Error(`listen.grpc: another processor listens on ${path}; stop it or name another path`)
  unlinkSync(path)
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

function drain(server: Server, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown()
      resolve()
    }, graceMs)
    server.tryShutdown(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}
