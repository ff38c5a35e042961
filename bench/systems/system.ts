import type { Nameserver } from '../nameserver.ts'
import type { Child, Processes } from '../processes.ts'
import type { RequestForm } from '../request-form.ts'
import type { Zone } from '../zones.ts'

/** Something that forwards callbacks, as the benchmark runs it. */
export interface System {
  /** Its name for --systems. */
  readonly name: string
  readonly title: string
  /** False for the limit, which sends everything to one receiver. All others do the whole job and are held to it. */
  readonly routesByZone: boolean
  /** True where each zone has upstream connections of its own, and not each address. */
  readonly connectsByZone?: boolean
  /** True: it runs only where --systems names it. */
  readonly onlyNamed?: boolean
  installed(): Promise<Installed>
  /** Starts it for a setting; its processes end with `setting.processes`. */
  start(setting: Setting): Promise<Running>
}

export type Installed = { readonly version: string } | { readonly missing: string }

export interface Setting {
  readonly zones: readonly Zone[]
  readonly workers: number
  readonly nameserver: Nameserver
  readonly processes: Processes
  readonly requestIds: boolean
  /** A program with its options to run Envoy under. */
  readonly under?: readonly string[]
}

export interface Running {
  /** Where it listens on 127.0.0.1. */
  readonly port: number
  /** What its requests look like; undefined: as those of most. */
  readonly form?: RequestForm
  /** Its processes, each the leader of a session that is charged to it. */
  readonly children: readonly Child[]
  /** Brings it to its steady state, once every zone was asked for. */
  settle?(): Promise<void>
  /** What went wrong since it settled that no client sees; undefined: nothing. */
  fault?(): Promise<string | undefined>
}
