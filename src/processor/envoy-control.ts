import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { now } from '../clock.ts'
import { addressFence } from '../config/envoy-settings.ts'
import { ENVOY_FOLDER, earlierZonesOfKeys, FILE_NAMES, RUN_FOLDER } from '../envoy-files/folder.ts'
import { type Generated, generate } from '../envoy-files/generated.ts'
import type { FallbackDns, NamesCluster } from '../envoy-files/names-cluster.ts'
import {
  type Addresses,
  listenerVersionIn,
  namesClusterOf,
  placeOfRoutes,
  type Rendered,
  renderBootstrap,
  renderListener,
  renderRoutes,
} from '../envoy-files/render.ts'
import type { TracingSettings } from '../envoy-files/tracing.ts'
import { upstreamCluster } from '../envoy-files/upstreams.ts'
import type { Service } from '../grpc/server.ts'
import type { Logger } from '../log.ts'
import { type Rules, type Upstream, upstreamsOf } from '../routing/rules.ts'
import type { SaidOfZones } from '../routing/said.ts'
import type { PolicyStatus } from '../status/status.ts'
import { isTestedEnvoy } from '../status/version.ts'
import { nodeTimers } from '../timers.ts'
import { watchFileForChanges } from '../watch-file.ts'
import type { EnvoyWithZone } from '../xds/ads-service.ts'
import type { ZonePolicy } from '../xds/catalog.ts'
import { type AddressFence, clusterResourceOf, coldClusterResource } from '../xds/cold-cluster.ts'
import {
  type ControlPlane,
  type ControlPlaneEvents,
  type ControlPlaneStatus,
  controlPlaneServices,
  createControlPlane,
} from '../xds/control-plane.ts'
import type { ZoneLoad } from '../xds/load-report-service.ts'
import { type PolicyFiles, type PolicyRules, routeConfigurationIn } from '../xds/policy.ts'
import { type Policy, PolicySource } from '../xds/policy-source.ts'
import { zoneKey } from '../xds/resource.ts'
import type { RoutingRules } from '../xds/routing-rules.ts'
import { BOOTSTRAP, unknownFields, unknownFieldsOfResources } from '../xds/unknown-fields.ts'
import { coldUpstream } from '../xds/upstream.ts'
import { type SourceFile, YamlFile } from '../xds/yaml-file.ts'
import type { PublishedZone, ZoneRef } from '../zones/learned-zones.ts'
import type { Bugs } from './bugs.ts'
import { ListenerInForce } from './listener-in-force.ts'
import { routingRules } from './routing-rules.ts'
import { RunFolder } from './run-folder.ts'
import { StartedBootstrap } from './started-bootstrap.ts'
import { type EnvoyFilesEvent, ToldFiles } from './told-files.ts'

/** The operator's files, relative to the working directory: routes, the listener, and what takes effect at Envoy's start. */
export const ROUTES_FILE = join(ENVOY_FOLDER, FILE_NAMES.routes)
export const LISTENER_FILE = join(ENVOY_FOLDER, FILE_NAMES.listener)
export const BOOTSTRAP_FILE = join(ENVOY_FOLDER, FILE_NAMES.bootstrap)
/** The cold path's cluster, which the processor sends to Envoy. */
export const CLUSTERS_FILE = join(ENVOY_FOLDER, 'clusters.yaml')
/** Live. */
const POLICY_FILES = [ROUTES_FILE, CLUSTERS_FILE, LISTENER_FILE]
const LISTENER_REFUSED = `requests still come by the listener before: Envoy refuses what ${LISTENER_FILE} says, and its log says why`
/** In Envoy's files as shipped. */
const ROUTE_CONFIGURATION = 'zonegate'
const POLICY_POLL_MS = 250
export const LOAD_REPORT_INTERVAL_MS = 5000

/** The control plane of all Envoys, for as long as the processor runs. */
export interface EnvoyControl {
  /** For the gRPC server. */
  readonly services: readonly Service[]
  /** False while no zone may be learned: Envoy's own files say what no learned zone could do, or can't be read. */
  readonly active: boolean
  policy(): PolicyStatus
  /** The operator's files that are in force; undefined: none yet, or others are in the folder than those. */
  filesInForce(): PolicyFiles | undefined
  /**
   * Takes over other rules.
   * @param allow CIDRs that zones may have though they are on the deny list
   * @param fallback undefined: Envoy resolves no name itself
   * @param said what is said of zones now
   * @param tracing undefined: Envoy traces no request
   */
  follow(
    rules: Rules,
    search: string,
    allow: readonly string[],
    fallback: FallbackDns | undefined,
    said: () => SaidOfZones,
    tracing: TracingSettings | undefined,
  ): void
  /** Takes over other nameservers, or another search domain, of the fallback. */
  followFallback(fallback: FallbackDns | undefined): void
  /** A request has come by the listener of this version. */
  cameBy(listenerVersion: string): void
  publish(zone: PublishedZone): void
  publishAnswered(zone: ZoneRef): void
  withdraw(zone: ZoneRef): void
  /** The virtual host of `envoy/routes.yaml` that has a zone's requests, so that it isn't learned. */
  pinOf(zone: ZoneRef): string | undefined
  /** What each connected Envoy has of a zone. */
  zoneOnEnvoys(zone: ZoneRef): readonly EnvoyWithZone[]
  /** Null until there are rules. */
  status(): ControlPlaneStatus | null
  close(): void
}

export interface EnvoyControlEvents {
  /** An Envoy brought along zones of an earlier processor. */
  readonly onZonesFound: (zones: readonly ZoneRef[]) => void
  readonly onLoad: (envoy: string, zone: ZoneRef, load: ZoneLoad) => void
  readonly onAnswer: ControlPlaneEvents['onAnswer']
  readonly onEnvoy: NonNullable<ControlPlaneEvents['onEnvoy']>
  /** Other files of the operator's are in force, or what is wrong with those that are there. Each is told once in a row. */
  readonly onFiles: (event: EnvoyFilesEvent) => void
  /** No zone may be learned any more: all are to be withdrawn. */
  readonly onColdOnly: () => void
}

/**
 * Starts Envoy's control plane, which follows Envoy's files once there are rules.
 * @param addresses of Envoy's listeners and of this processor, for the files that Envoy reads
 */
export function startEnvoyControl(
  events: EnvoyControlEvents,
  addresses: Addresses,
  log: Logger,
  bugs: Bugs,
): EnvoyControl {
  const files = new FollowedFiles(events, addresses, log, bugs)
  const unwatch = [...POLICY_FILES, BOOTSTRAP_FILE].map((file) =>
    watchFileForChanges(
      file,
      { pollMs: POLICY_POLL_MS, settleMs: POLICY_POLL_MS, onBug: bugs.at('file') },
      () => files.saved(),
    ),
  )
  return {
    services: controlPlaneServices(() => files.plane),
    get active() {
      return files.isActive
    },
    policy: () => files.status(),
    filesInForce: () => files.inForce,
    follow: (rules, search, allow, fallback, said, tracing) => {
      const routing = routingRules(rules, search, fallback !== undefined, said)
      files.follow({ rules, routing, fallback, tracing }, addressFence(allow))
    },
    followFallback: (fallback) => files.followFallback(fallback),
    cameBy: (version) => files.cameBy(version),
    publish: (zone) => {
      if (files.isActive) files.plane?.publish(zone)
    },
    publishAnswered: (zone) => {
      if (files.isActive) files.plane?.publishAnswered(zone)
    },
    withdraw: ({ service, id }) => files.plane?.withdraw(zoneKey(service, id)),
    pinOf: (zone) => files.plane?.pinOf(zone),
    zoneOnEnvoys: (zone) => files.plane?.zoneOnEnvoys(zone) ?? [],
    status: () => files.plane?.status() ?? null,
    close: () => {
      for (const stop of unwatch) stop()
      files.close()
    },
  }
}

/**
 * Joins Envoy's control plane to the files that it copies from. As long as they can't be read, or say what no learned zone
 * could do, no zone is learned, and those that Envoys have are withdrawn: every request asks the processor.
 */
class FollowedFiles {
  readonly #events: EnvoyControlEvents
  readonly #log: Logger
  readonly #bugs: Bugs
  readonly #bootstrap: StartedBootstrap
  readonly #source: PolicySource
  readonly #addresses: Addresses
  readonly #run: RunFolder
  readonly #listener = new ListenerInForce(now)
  #plane: ControlPlane | undefined
  #rules: FollowedRules | undefined
  /** Request headers that running Envoys keep apart, as far as is known; undefined: those that they are told to. */
  #inline: ReadonlySet<string> | undefined
  /** In the listener's and in the bootstrap's file as they are now; those of the others stop learning. */
  readonly #unknown: Record<keyof typeof UNKNOWN_FIELD, readonly string[]> = { listener: [], bootstrap: [] }
  /** What Envoy is to read, by the files that could be read last and by the rules. */
  #rendered:
    | (Omit<Rendered, 'bootstrap' | 'secrets'> & { readonly names: NamesCluster | undefined })
    | undefined
  /** How zones are reached by the routes that Envoys have read: what these need stays until they have read others. */
  #upstreamsOfRoutes: readonly Upstream[] = []
  #isProving = false
  /** The files that `onFiles` told of last. */
  readonly #told: ToldFiles
  #fence: AddressFence = addressFence([])
  #inForce: Policy
  /** Envoy's own words about what was saved. */
  #refusal: string | undefined

  constructor(events: EnvoyControlEvents, addresses: Addresses, log: Logger, bugs: Bugs) {
    this.#events = events
    this.#addresses = addresses
    this.#log = log
    this.#bugs = bugs
    this.#run = new RunFolder(typeof addresses.processor === 'string', {
      log,
      timers: nodeTimers(now, bugs.at('timer')),
      onWritten: ({ listener }) => listener && this.#listener.written(listenerVersionIn(listener)),
    })
    this.#inline = this.#run.inlineHeaders()
    this.#bootstrap = new StartedBootstrap(
      // Its inline headers are made known by Envoy itself, and the key is made by them: no rule waits for a start.
      () => renderBootstrap(fileAt(BOOTSTRAP_FILE), NO_INLINE_HEADERS, this.#addresses),
      () =>
        log.warn(
          { file: BOOTSTRAP_FILE },
          'this file has changed: it takes effect when Envoy is started again',
        ),
    )
    this.#source = new PolicySource({ read: readFiles, check: (files) => this.#render(files), log })
    this.#inForce = this.#source.current
    this.#told = new ToldFiles(events.onFiles)
  }

  /** Undefined until there are rules. */
  get plane(): ControlPlane | undefined {
    return this.#plane
  }

  get isActive(): boolean {
    return this.#plane !== undefined && this.#inForce.kind === 'policy'
  }

  get inForce(): PolicyFiles | undefined {
    const isOther = this.#isProving || this.#refusal !== undefined || this.#source.faults.length > 0
    return isOther ? undefined : this.#source.files
  }

  status(): PolicyStatus {
    return {
      reasons: this.#inForce.kind === 'cold only' ? this.#inForce.reasons : [],
      faults: [
        ...this.#source.faults,
        this.#bootstrap.fault,
        this.#refusal,
        this.#run.fault,
        this.#listener.isRefused ? LISTENER_REFUSED : undefined,
      ].filter((fault) => fault !== undefined),
      ...pinnedIn(this.#inForce),
      ...unknownIn([...this.#unknown.listener, ...this.#unknown.bootstrap]),
      needsRestart: this.#bootstrap.needsRestart ? [BOOTSTRAP_FILE] : [],
    }
  }

  follow(rules: FollowedRules, fence: AddressFence): void {
    this.#rules = rules
    this.#fence = fence
    this.#lookAtBootstrap()
    const policy = this.#source.reload(policyRules(rules.routing, this.#generated))
    if (this.#plane !== undefined) {
      this.#apply(this.#inForce)
      this.#reloaded(policy)
      return
    }
    // At the start Envoy has read the same, or reads it now. Zones that it has stay, unless it refuses what is in it.
    if (this.#source.faults.length === 0) this.#write()
    else this.#writeMissing()
    const first = this.#source.current
    this.#apply(first)
    this.#prove(
      first,
      () => this.#write(), // what was saved meanwhile
      (why) => this.#apply({ kind: 'cold only', reasons: [why], cold: first.cold }),
    )
  }

  close(): void {
    this.#run.close()
    this.#plane?.close()
  }

  followFallback(fallback: FallbackDns | undefined): void {
    if (this.#rules === undefined) return
    this.#rules = { ...this.#rules, fallback }
    this.#lookAtFiles()
  }

  cameBy(listenerVersion: string): void {
    if (!this.#listener.seen(listenerVersion)) return
    this.#log.error({ fault: LISTENER_REFUSED }, "Envoy's listener")
    this.#told.faults([LISTENER_REFUSED])
  }

  /** One of the files may be another. */
  saved(): void {
    this.#lookAtFiles()
    this.#plane?.retryRefused()
  }

  #lookAtFiles(): void {
    if (this.#rules === undefined) return
    this.#lookAtBootstrap()
    this.#reloaded(this.#source.reload(policyRules(this.#rules.routing, this.#generated)))
  }

  /** What can't be read here never gets to Envoy, some of which would end it: an alias that refers to itself, say. */
  #reloaded(policy: Policy | undefined): void {
    this.#told.faults(this.#source.faults)
    if (this.#source.faults.length > 0) return
    if (policy !== undefined) this.#take(policy)
    // Another listener, or another comment. What Envoy has refused of the routes stays with the operator.
    else if (!this.#isProving) {
      this.#write(this.#refusal === undefined)
      this.#sendColdClusters(this.#inForce)
    }
  }

  get #generated(): Generated {
    return generate(this.#rules?.rules ?? [], this.#rules?.fallback, this.#rules?.tracing, this.#inline)
  }

  /** What the listener makes of a header depends on whether Envoy keeps it apart, which Envoy learns when it starts. */
  #lookAtEnvoys(): void {
    const inline = this.#plane?.inlineHeaders()
    if (inline === undefined || isSame(inline, this.#inline)) return
    this.#inline = inline
    this.#lookAtFiles()
  }

  #render({ listener, routes, clusters }: PolicyFiles): void {
    const generated = this.#generated
    this.#tellUnknown('listener', unknownFieldsOfResources(new YamlFile(listener)))
    const names = namesClusterOf(clusters, generated)
    this.#rendered = {
      listener: renderListener(listener, generated, this.#addresses),
      routes: renderRoutes(routes, generated, names, earlierZonesOfKeys(RUN_FOLDER)),
      names,
    }
  }

  #lookAtBootstrap(): void {
    const before = this.#bootstrap.fault
    this.#bootstrap.look()
    const { fault } = this.#bootstrap
    if (fault !== undefined && fault !== before)
      this.#log.error({ fault }, "Envoy's next start is as before: this file can't be used")
    if (fault === undefined) this.#writeBootstrap()
  }

  #writeBootstrap(): void {
    const generated = this.#generated
    const bootstrap = fileAt(BOOTSTRAP_FILE)
    this.#tellUnknown('bootstrap', unknownFields(new YamlFile(bootstrap), BOOTSTRAP))
    this.#run.write({
      bootstrap: renderBootstrap(bootstrap, generated, this.#addresses, this.#namesOr(generated)),
    })
  }

  /** While the file of clusters is at fault, Envoy starts with the cluster that it has now. */
  #namesOr(generated: Generated): NamesCluster | undefined {
    try {
      return namesClusterOf(fileAt(CLUSTERS_FILE), generated)
    } catch {
      return this.#rendered?.names
    }
  }

  #tellUnknown(of: keyof typeof UNKNOWN_FIELD, fields: readonly string[]): void {
    const before = this.#unknown[of]
    this.#unknown[of] = fields
    const added = fields.filter((field) => !before.includes(field))
    for (const field of added) this.#log.warn({ field }, `Envoy's files: ${UNKNOWN_FIELD[of]}`)
    this.#told.faults(added.map((field) => `${field} (${UNKNOWN_FIELD[of]})`))
  }

  /** An Envoy that starts beside faulty files has the last sound ones; where there are none, what can be made of each. */
  #writeMissing(): void {
    const generated = this.#generated
    const renderings = {
      listener: () => renderListener(fileAt(LISTENER_FILE), generated, this.#addresses),
      routes: () => renderRoutes(fileAt(ROUTES_FILE), generated, this.#namesOr(generated)),
    }
    for (const [file, rendering] of Object.entries(renderings)) {
      try {
        this.#run.writeMissing(file as keyof typeof renderings, rendering)
      } catch {} // its fault is told
    }
  }

  /** Has Envoy read its routes and its listener. */
  #write(withRoutes = true): void {
    if (this.#rendered === undefined) return
    const { listener, routes } = this.#rendered
    this.#sendNamesCluster()
    this.#run.write({ listener, ...(withRoutes && { routes }) })
    if (!withRoutes) return
    this.#upstreamsOfRoutes = upstreamsOf(this.#rules?.rules ?? [])
    this.#told.taken(this.#source.files)
  }

  #take(policy: Policy): void {
    this.#plane?.cancelProof()
    this.#isProving = false
    this.#refusal = undefined
    // While no zone is hot, Envoy may read its file at once: there is nothing that could differ from it.
    if (policy.kind === 'cold only' || this.#inForce.kind === 'cold only') this.#write()
    if (policy.kind === 'cold only') this.#apply(policy)
    else
      this.#prove(
        policy,
        () => {
          this.#write()
          this.#apply(policy)
        },
        () => this.#sendColdClusters(this.#inForce),
      )
  }

  /** Nothing changes on either path before Envoy has accepted it: hot zones follow then, and Envoy gets its files. */
  #prove(policy: Policy, accepted: () => void, refused: (why: string) => void): void {
    const configuration = this.#rendered && routeConfigurationIn(this.#rendered.routes)
    if (this.#plane === undefined || policy.kind !== 'policy' || configuration === undefined) return
    this.#sendColdClusters(policy)
    this.#isProving = true
    this.#plane.prove(configuration, (fault) => {
      this.#isProving = false
      this.#refusal = fault && `Envoy refuses what ${ROUTES_FILE} or ${CLUSTERS_FILE} says: ${fault}`
      if (this.#refusal === undefined) accepted()
      else {
        this.#log.error({ fault: this.#refusal }, "Envoy's files: nothing changes")
        this.#told.faults([this.#refusal])
        refused(this.#refusal)
      }
    })
  }

  #apply(policy: Policy): void {
    if (this.#rules === undefined) return
    const changed = policy !== this.#inForce
    this.#inForce = policy
    if (changed && policy.kind === 'cold only' && this.#plane !== undefined) this.#events.onColdOnly()
    if (this.#plane === undefined) this.#plane = this.#createPlane(policy, this.#rules.routing)
    else this.#plane.setPolicy(policyFor(policy), this.#rules.routing)
    this.#sendColdClusters(policy)
    this.#sendNamesCluster()
    if (changed && policy.kind === 'policy')
      this.#log.info(
        { files: POLICY_FILES },
        'learned zones follow the routes and the cluster of these files',
      )
  }

  #createPlane(policy: Policy, rules: RoutingRules): ControlPlane {
    const events = {
      ...this.#events,
      isActive: () => this.isActive,
      onStarted: () => this.#bootstrap.envoyStarted(),
      onIntroduced: () => this.#lookAtEnvoys(),
    }
    return createPlane(policyFor(policy), rules, events, this.#log, this.#bugs)
  }

  #sendColdClusters(policy: Policy): void {
    const { cluster } = policy.cold
    if (cluster === undefined) return
    const wanted = upstreamsOf(this.#rules?.rules ?? [])
    if (wanted.length > 0) this.#run.write({ secrets: this.#generated.secrets })
    const all = [...this.#upstreamsOfRoutes, ...wanted]
    const upstreams = new Map(all.map((upstream) => [upstream.cluster, upstream])).values()
    const clusters = [
      cluster,
      ...[...upstreams].map((upstream) => coldUpstream(cluster, upstreamCluster(upstream, RUN_FOLDER))),
    ]
    this.#plane?.setColdClusters(clusters.map((each) => coldClusterResource(each, this.#fence)))
  }

  #sendNamesCluster(): void {
    const names = this.#rendered?.names
    this.#plane?.setNamesCluster(names && clusterResourceOf(names.cluster))
  }
}

/** Where nothing is learned, all that is needed is the name by which virtual hosts are withdrawn. */
function policyFor(policy: Policy): ZonePolicy {
  if (policy.kind === 'policy') return policy.policy
  const routeConfiguration = policy.cold.configuration?.name ?? ROUTE_CONFIGURATION
  return { routes: { routeConfiguration, coldRoutes: [] }, cluster: {} }
}

/** What Envoy makes of a field that it doesn't know. */
const UNKNOWN_FIELD = {
  listener: 'Envoy passes over a field that it does not know, and what it would say by default holds',
  bootstrap: 'with a field that it does not know Envoy does not start',
} as const

function unknownIn(unknown: readonly string[]): Pick<PolicyStatus, 'unknown'> {
  return unknown.length === 0 ? {} : { unknown }
}

/** What of the domains in the file can be those of ids. */
function pinnedIn(policy: Policy): Pick<PolicyStatus, 'pinned'> {
  const pins = policy.kind === 'policy' ? (policy.policy.routes.pins ?? []) : []
  const pinned = pins.flatMap(({ domains }) => domains).filter((domain) => /[/*]/.test(domain))
  return pinned.length === 0 ? {} : { pinned }
}

function createPlane(
  policy: ZonePolicy,
  rules: RoutingRules,
  events: EnvoyControlEvents & {
    readonly isActive: () => boolean
    readonly onStarted: () => void
    readonly onIntroduced: () => void
  },
  log: Logger,
  bugs: Bugs,
): ControlPlane {
  const plane = createControlPlane({
    policy,
    rules,
    events: {
      onZonesFound: (_envoy, found) => {
        if (events.isActive()) events.onZonesFound(found)
        else for (const { key } of found) plane.withdraw(key)
      },
      onLoad: (envoy, key, load) => {
        const [service = '', id = ''] = key.split('/')
        events.onLoad(envoy, { service, id }, load)
      },
      onStarted: events.onStarted,
      onIntroduced: events.onIntroduced,
      onAnswer: events.onAnswer,
      onEnvoy: events.onEnvoy,
    },
    timers: nodeTimers(now, bugs.at('timer')),
    log,
    onBug: (place) => bugs.at(place),
    isTestedVersion: isTestedEnvoy,
    epoch: randomUUID().slice(0, 8),
    loadReportIntervalMs: LOAD_REPORT_INTERVAL_MS,
  })
  return plane
}

/** What follows from the processor's rules: for learned zones, and for Envoy's files. */
interface FollowedRules {
  readonly rules: Rules
  readonly routing: RoutingRules
  readonly fallback: FallbackDns | undefined
  readonly tracing: TracingSettings | undefined
}

function policyRules({ routeHeader }: RoutingRules, { routes, asks, askSettings }: Generated): PolicyRules {
  return { routeHeader, routes, asks, askSettings, placeOfRoutes }
}

const NO_INLINE_HEADERS = { inlineHeaders: [] } as const

function isSame(a: ReadonlySet<string>, b: ReadonlySet<string> | undefined): boolean {
  return a.size === b?.size && [...a].every((name) => b.has(name))
}

/** @throws where one can't be read */
function readFiles(): PolicyFiles {
  return { routes: fileAt(ROUTES_FILE), clusters: fileAt(CLUSTERS_FILE), listener: fileAt(LISTENER_FILE) }
}

function fileAt(path: string): SourceFile {
  return { path, text: readFileSync(path, 'utf8') }
}
