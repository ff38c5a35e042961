import type { Child, Installed, Processes } from '../processes.ts'
import type { Zone } from '../zones.ts'

/** A proxy that the benchmark runs. */
export interface System {
  /** Its name for --systems. */
  readonly name: string
  readonly title: string
  /** False: it forwards everything to one receiver. Every other system must do the whole job, and is checked for it. */
  readonly routesByZone: boolean
  /** True: it keeps connections for each zone; otherwise for each address. */
  readonly connectsByZone?: boolean
  /** True: it runs only where --systems names it. */
  readonly onlyNamed?: boolean
  installed(): Promise<Installed>
  /** Starts it. Its processes end with `setting.processes`. */
  start(setting: Setting): Promise<Running>
}

export interface Nameserver {
  readonly address: string
  readonly port: number
}

export interface Setting {
  readonly zones: readonly Zone[]
  readonly workers: number
  readonly nameservers: readonly Nameserver[]
  /** The TTL of every record, for systems that do not read it from the answer. */
  readonly ttlSeconds: number
  readonly processes: Processes
  readonly requestIds: boolean
  /** A program, with its options, that Envoy runs under. */
  readonly under?: readonly string[]
}

/** The form of a request. `{id}` stands for the zone's id in the path, the body and the values of headers. */
export interface RequestForm {
  readonly path: string
  /** By name. wrk needs `Host` with a capital letter. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export interface Running {
  /** Its port on 127.0.0.1. */
  readonly port: number
  /** The form of its requests; undefined: the usual one. */
  readonly form?: RequestForm
  /** Its processes. Each leads a session, and everything in that session is charged to the system. */
  readonly children: readonly Child[]
  /** Brings it to its steady state, after every zone had a request. */
  settle?(): Promise<void>
  /** What went wrong since then and no client saw; undefined: nothing. */
  fault?(): Promise<string | undefined>
}
