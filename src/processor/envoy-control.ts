import { randomUUID } from 'node:crypto'
import { now } from '../clock.ts'
import { addressFence, fallbackDns, type NamesInForce, tracingOf } from '../config/envoy-settings.ts'
import type { Config } from '../config/schema.ts'
import { RUN_FOLDER } from '../envoy-files/folder.ts'
import { type Generated, generate } from '../envoy-files/generated.ts'
import { type PolicyFiles, routeConfigurationIn } from '../envoy-files/policy.ts'
import type { Policy } from '../envoy-files/policy-source.ts'
import { type Addresses, listenerNamesIn, renderListener, renderRoutes } from '../envoy-files/render.ts'
import { secretFiles, upstreamCluster } from '../envoy-files/upstreams.ts'
import type { Service } from '../grpc/server.ts'
import type { Logger } from '../log.ts'
import { type Rules, type Upstream, upstreamsOf } from '../routing/rules.ts'
import type { SaidOfZones } from '../routing/said.ts'
import type { PolicyStatus } from '../status/status.ts'
import { isTestedEnvoy } from '../status/version.ts'
import { nodeTimers, type Timers } from '../timers.ts'
import { watchFileForChanges } from '../watch-file.ts'
import type { ZonePolicy } from '../xds/catalog.ts'
import { clusterResourceOf, coldClusterResource } from '../xds/cold-cluster.ts'
import {
  type ControlPlane,
  type ControlPlaneEvents,
  type ControlPlaneStatus,
  controlPlaneServices,
  createControlPlane,
} from '../xds/control-plane.ts'
import type { EnvoyWithZone } from '../xds/envoy-stream.ts'
import type { ZoneLoad } from '../xds/load-report-service.ts'
import { zoneKey } from '../xds/resource.ts'
import type { RoutingRules } from '../xds/routing-rules.ts'
import { coldUpstream } from '../xds/upstream.ts'
import type { PublishedZone, ZoneRef } from '../zones/learned-zones.ts'
import { BootstrapFile } from './bootstrap-file.ts'
import type { Bugs } from './bugs.ts'
import { CONNECTED_WITHIN_MS, ListenerInForce, READ_WITHIN_MS } from './listener-in-force.ts'
import { fileAt, LIVE_FILES, OperatorFiles, PATHS, savedNames } from './operator-files.ts'
import { routingRules } from './routing-rules.ts'
import { RunFolder } from './run-folder.ts'
import { type EnvoyFilesEvent, ToldFiles } from './told-files.ts'

/** The name of the route configuration in Envoy's files as shipped. */
const ROUTE_CONFIGURATION = 'zonegate'
const FILES_POLL_MS = 250
export const LOAD_REPORT_INTERVAL_MS = 5000
/** What Envoy does with an unknown field. */
const UNKNOWN_FIELD = {
  listener: 'Envoy ignores this unknown field, so the default applies',
  bootstrap: 'Envoy does not start with this unknown field',
} as const

/** The configuration from which Envoy's files, clusters and virtual hosts follow. */
export interface Followed {
  readonly config: Config
  readonly rules: Rules
  /** The search domain of the zones' names. */
  readonly search: string
  /** For Envoy's own resolver. */
  readonly names: NamesInForce
  /** What zonegate.yaml and pins say of zones now. */
  readonly said: () => SaidOfZones
}

export interface EnvoyControlEvents {
  /** An Envoy still has zones of an earlier processor. */
  readonly onZonesFound: (zones: readonly ZoneRef[]) => void
  readonly onLoad: (envoy: string, zone: ZoneRef, load: ZoneLoad) => void
  readonly onAnswer: ControlPlaneEvents['onAnswer']
  readonly onEnvoy: NonNullable<ControlPlaneEvents['onEnvoy']>
  /** New files of the operator are in force, or the saved files have faults. Called once for each change. */
  readonly onFiles: (event: EnvoyFilesEvent) => void
  /** Zones can't be learned any more: the receiver withdraws all of them. */
  readonly onColdOnly: () => void
}

/**
 * Connects the control plane of all Envoys with the operator's files, for as long as the processor runs.
 *
 * If the files can't be read, or configure something that learned zones don't support, no zone is learned and every request
 * asks the processor. Faulty files never reach Envoy, because some faults end it: a YAML alias that refers to itself, for example.
 */
export class EnvoyControl {
  readonly #events: EnvoyControlEvents
  readonly #addresses: Addresses
  readonly #log: Logger
  readonly #bugs: Bugs
  readonly #timers: Timers
  readonly #files: OperatorFiles
  readonly #bootstrap: BootstrapFile
  readonly #run: RunFolder
  readonly #listener = new ListenerInForce(now, () => this.#plane?.ads.listeners() ?? [])
  readonly #told: ToldFiles
  readonly #stopWatching: readonly (() => void)[]
  /** Undefined until the first `follow`. */
  #plane: ControlPlane | undefined
  #followed: Followed | undefined
  #inForce: Policy
  /** Inline headers of the running Envoys. If undefined, the processor assumes those of the configuration. */
  #inline: ReadonlySet<string> | undefined
  /** Upstreams of the routes that Envoys have read. Their clusters stay until Envoys have read other routes. */
  #upstreamsOfRoutes: readonly Upstream[] = []
  /** True while Envoys check the saved files. */
  #isProving = false
  /** Why Envoy refuses the saved files. */
  #refusal: string | undefined
  #unknown: Readonly<Record<keyof typeof UNKNOWN_FIELD, readonly string[]>> = { listener: [], bootstrap: [] }

  /** @param addresses of Envoy's listeners and of this processor, for the files that Envoy reads */
  constructor(events: EnvoyControlEvents, addresses: Addresses, log: Logger, bugs: Bugs) {
    this.#events = events
    this.#addresses = addresses
    this.#log = log
    this.#bugs = bugs
    this.#timers = nodeTimers(now, bugs.at('timer'))
    this.#files = new OperatorFiles(addresses, log)
    this.#bootstrap = new BootstrapFile(addresses, log)
    this.#run = new RunFolder(typeof addresses.processor === 'string', {
      log,
      timers: this.#timers,
      onWritten: ({ listener }) => listener && this.#listenerWritten(listener),
    })
    this.#inline = this.#run.inlineHeaders()
    this.#inForce = this.#files.policy
    this.#told = new ToldFiles(events.onFiles)
    this.#stopWatching = [...LIVE_FILES, PATHS.bootstrap].map((file) =>
      watchFileForChanges(
        file,
        { pollMs: FILES_POLL_MS, settleMs: FILES_POLL_MS, onBug: bugs.at('file') },
        () => this.#saved(),
      ),
    )
  }

  /** For the gRPC server. */
  get services(): readonly Service[] {
    return controlPlaneServices(() => this.#plane)
  }

  /** False while zones can't be learned. */
  get active(): boolean {
    return this.#plane !== undefined && this.#inForce.kind === 'policy'
  }

  /** The operator's files in force. Undefined if the saved files are not in force (yet). */
  get filesInForce(): PolicyFiles | undefined {
    const isOther = this.#isProving || this.#refusal !== undefined || this.#files.faults.length > 0
    return isOther ? undefined : this.#files.sound
  }

  policy(): PolicyStatus {
    const unknown = [...this.#unknown.listener, ...this.#unknown.bootstrap]
    const pinned = pinnedIn(this.#inForce)
    return {
      reasons: this.#inForce.kind === 'cold only' ? this.#inForce.reasons : [],
      faults: [
        ...this.#files.faults,
        this.#bootstrap.fault,
        this.#refusal,
        this.#run.fault,
        ...this.#listener.refusing().map((envoy) => this.#listenerFault(envoy)),
      ].filter((fault) => fault !== undefined),
      ...(pinned.length > 0 && { pinned }),
      ...(unknown.length > 0 && { unknown }),
      needsRestart: this.#bootstrap.needsRestart ? [PATHS.bootstrap] : [],
    }
  }

  /** Why Envoy's files can't follow this. Null if they can. */
  faultOf(followed: Followed): string | null {
    const fault = this.#files.faultOf(this.#generate(followed))
    return fault === undefined ? null : `the new configuration waits until Envoy's files fit it: ${fault}`
  }

  /** Takes over another configuration, other nameservers or another search domain. */
  follow(followed: Followed): void {
    this.#followed = followed
    if (this.#plane === undefined) {
      this.#start(followed)
      return
    }
    this.#renderBootstrap(followed)
    const policy = this.#files.read(this.#generate(followed))
    this.#apply(this.#inForce, followed)
    this.#reloaded(policy, followed)
  }

  /** Gives the fallback other nameservers. */
  followNames(names: NamesInForce): void {
    if (this.#followed === undefined) return
    this.#followed = { ...this.#followed, names }
    this.#readFiles()
  }

  publish(zone: PublishedZone): void {
    if (this.active) this.#plane?.catalog.publish(zone, now())
  }

  publishAnswered(zone: ZoneRef): void {
    if (this.active) this.#plane?.catalog.adopt(zone)
  }

  withdraw({ service, id }: ZoneRef): void {
    this.#plane?.catalog.withdraw(zoneKey(service, id))
  }

  /** The virtual host of `envoy/routes.yaml` that takes a zone's requests and so keeps the zone from being learned. */
  pinOf(zone: ZoneRef): string | undefined {
    return this.#plane?.catalog.pinOf(zone)
  }

  /** What each connected Envoy has of a zone. */
  zoneOnEnvoys(zone: ZoneRef): readonly EnvoyWithZone[] {
    return this.#plane?.ads.zoneOnEnvoys(zone) ?? []
  }

  /** Null until the first `follow`. */
  status(): ControlPlaneStatus | null {
    return this.#plane?.status() ?? null
  }

  close(): void {
    for (const stop of this.#stopWatching) stop()
    this.#run.close()
    this.#plane?.close()
  }

  /**
   * A running Envoy has read the same files, or reads them now. It keeps its zones unless it refuses the files.
   */
  #start(followed: Followed): void {
    this.#renderBootstrap(followed)
    this.#files.read(this.#generate(followed))
    this.#tellUnknown('listener', this.#files.unknown)
    if (this.#files.sound !== undefined) this.#write(followed)
    else this.#writeMissing(followed)
    const first = this.#files.policy
    this.#apply(first, followed)
    this.#prove(
      first,
      followed,
      (saved) => this.#write(saved),
      (why, saved) => this.#apply({ kind: 'cold only', reasons: [why], cold: first.cold }, saved),
    )
  }

  /** Called when a file may have changed. */
  #saved(): void {
    this.#readFiles()
    this.#plane?.catalog.retryRefused()
  }

  #readFiles(): void {
    if (this.#followed === undefined) return
    this.#renderBootstrap(this.#followed)
    this.#reloaded(this.#files.read(this.#generate(this.#followed)), this.#followed)
  }

  /** Envoy's inline headers are fixed when Envoy starts, and the listener must fit them. */
  #readInlineHeaders(): void {
    const inline = this.#plane?.ads.inlineHeaders()
    if (inline === undefined || isSame(inline, this.#inline)) return
    this.#inline = inline
    this.#readFiles()
  }

  #generate({ config, rules, names }: Followed): Generated {
    return generate(rules, fallbackDns(config, names), tracingOf(config), this.#inline)
  }

  #renderBootstrap(followed: Followed): void {
    const bootstrap = this.#bootstrap.render(this.#generate(followed), this.#files.rendered?.names)
    if (bootstrap === undefined) return
    this.#tellUnknown('bootstrap', this.#bootstrap.unknown)
    this.#run.write({ bootstrap })
  }

  /** @param policy the new policy, or undefined if it has not changed */
  #reloaded(policy: Policy | undefined, followed: Followed): void {
    this.#tellUnknown('listener', this.#files.unknown)
    this.#told.faults(this.#files.faults)
    if (policy !== undefined) this.#take(policy, followed)
    // Only the listener or a comment has changed. Envoy does not get routes that it has refused.
    else if (!this.#isProving) {
      this.#write(followed, this.#refusal === undefined)
      this.#sendColdClusters(this.#inForce, followed)
    }
  }

  /**
   * Puts a policy in force on both paths once Envoys have accepted it: first Envoy gets its files, then learned zones follow.
   * While zones can't be learned, the two paths can't differ, so Envoy gets its files at once.
   */
  #take(policy: Policy, followed: Followed): void {
    this.#plane?.ads.cancelProof()
    this.#isProving = false
    this.#refusal = undefined
    if (policy.kind === 'cold only' || this.#inForce.kind === 'cold only') this.#write(followed)
    if (policy.kind === 'cold only') {
      this.#apply(policy, followed)
      return
    }
    this.#prove(
      policy,
      followed,
      (saved) => {
        this.#write(saved)
        this.#apply(policy, saved)
      },
      (_, saved) => this.#sendColdClusters(this.#inForce, saved),
    )
  }

  /** Asks Envoys whether they accept the routes and clusters. `accepted` and `refused` get the configuration of that moment. */
  #prove(
    policy: Policy,
    followed: Followed,
    accepted: (saved: Followed) => void,
    refused: (why: string, saved: Followed) => void,
  ): void {
    const { rendered } = this.#files
    const configuration = rendered && routeConfigurationIn(rendered.routes)
    if (this.#plane === undefined || policy.kind !== 'policy' || configuration === undefined) return
    this.#sendColdClusters(policy, followed)
    this.#isProving = true
    this.#plane.ads.prove(configuration, (fault) => {
      this.#isProving = false
      this.#refusal = fault && `Envoy refuses ${PATHS.routes} or ${PATHS.clusters}: ${fault}`
      const saved = this.#followed ?? followed
      if (this.#refusal === undefined) {
        accepted(saved)
        return
      }
      this.#log.error({ fault: this.#refusal }, "Envoy's files have not changed")
      this.#told.faults([this.#refusal])
      refused(this.#refusal, saved)
    })
  }

  /** Gives Envoys the policy and the rules for learned zones, and their clusters. */
  #apply(policy: Policy, followed: Followed): void {
    const changed = policy !== this.#inForce
    this.#inForce = policy
    if (changed && policy.kind === 'cold only' && this.#plane !== undefined) this.#events.onColdOnly()
    const { config, rules, search, names, said } = followed
    const routing = routingRules(rules, search, fallbackDns(config, names) !== undefined, said)
    if (this.#plane === undefined) this.#plane = this.#createPlane(policyFor(policy), routing)
    else this.#plane.catalog.setPolicy(policyFor(policy), routing)
    this.#sendColdClusters(policy, followed)
    this.#sendNamesCluster()
    if (changed && policy.kind === 'policy')
      this.#log.info({ files: LIVE_FILES }, 'learned zones follow the routes and the cluster of these files')
  }

  /** Writes the routes and the listener for Envoy. */
  #write(followed: Followed, withRoutes = true): void {
    const { rendered, sound } = this.#files
    if (rendered === undefined) return
    const { listener, routes } = rendered
    this.#sendNamesCluster()
    this.#run.write({ listener, ...(withRoutes && { routes }) })
    if (!withRoutes) return
    this.#upstreamsOfRoutes = upstreamsOf(followed.rules)
    this.#told.taken(sound)
  }

  /** Before the operator's files are sound, a starting Envoy gets the files of an earlier run, or else each file that renders. */
  #writeMissing(followed: Followed): void {
    const generated = this.#generate(followed)
    const renderings = {
      listener: () => renderListener(fileAt(PATHS.listener), generated, this.#addresses),
      routes: () => renderRoutes(fileAt(PATHS.routes), generated, savedNames(generated)),
    }
    for (const [file, rendering] of Object.entries(renderings)) {
      try {
        this.#run.writeMissing(file as keyof typeof renderings, rendering)
      } catch {} // OperatorFiles reports the fault
    }
  }

  #sendColdClusters({ cold: { cluster } }: Policy, { config, rules }: Followed): void {
    if (cluster === undefined) return
    const all = [...this.#upstreamsOfRoutes, ...upstreamsOf(rules)]
    const upstreams = [...new Map(all.map((upstream) => [upstream.cluster, upstream])).values()]
    const secrets = secretFiles(upstreams)
    if (upstreams.length > 0) this.#run.write({ secrets })
    this.#run.removeSecrets((name) => Object.hasOwn(secrets, name))
    const fence = addressFence(config.addresses.allow)
    const clusters = [
      cluster,
      ...upstreams.map((upstream) => coldUpstream(cluster, upstreamCluster(upstream, RUN_FOLDER))),
    ]
    this.#plane?.catalog.setColdClusters(clusters.map((each) => coldClusterResource(each, fence)))
  }

  #sendNamesCluster(): void {
    const names = this.#files.rendered?.names
    this.#plane?.catalog.setNamesCluster(names && clusterResourceOf(names.cluster))
  }

  #tellUnknown(file: keyof typeof UNKNOWN_FIELD, fields: readonly string[]): void {
    const added = fields.filter((field) => !this.#unknown[file].includes(field))
    this.#unknown = { ...this.#unknown, [file]: fields }
    for (const field of added) this.#log.warn({ field }, `Envoy's files: ${UNKNOWN_FIELD[file]}`)
    this.#told.faults(added.map((field) => `${field} (${UNKNOWN_FIELD[file]})`))
  }

  #listenerWritten(listener: string): void {
    this.#listener.written(listenerNamesIn(listener))
    this.#timers.start(() => this.#tellListener(), READ_WITHIN_MS)
  }

  #tellListener(): void {
    const faults = this.#listener.refusingSinceLast().map((envoy) => this.#listenerFault(envoy))
    for (const fault of faults) this.#log.error({ fault }, "Envoy's listener has not changed")
    this.#told.faults(faults)
  }

  #listenerFault(envoy: string): string {
    return this.#run.isElsewhere
      ? `Envoy ${envoy} does not use this ${PATHS.listener}: run "zonegate render" beside it; if you did, Envoy refuses the file, and its log says why`
      : `Envoy ${envoy} refuses ${PATHS.listener} and keeps its previous listener, if it has one; Envoy's log says why`
  }

  #createPlane(policy: ZonePolicy, rules: RoutingRules): ControlPlane {
    const { onZonesFound, onLoad, onAnswer, onEnvoy } = this.#events
    const plane = createControlPlane({
      policy,
      rules,
      events: {
        onZonesFound: (_envoy, found) => {
          if (this.active) onZonesFound(found)
          else for (const { key } of found) plane.catalog.withdraw(key)
        },
        onLoad: (envoy, key, load) => {
          const [service = '', id = ''] = key.split('/')
          onLoad(envoy, { service, id }, load)
        },
        onStarted: () => this.#bootstrap.envoyStarted(),
        onIntroduced: () => {
          this.#readInlineHeaders()
          this.#timers.start(() => this.#tellListener(), CONNECTED_WITHIN_MS)
        },
        onAnswer,
        onEnvoy,
      },
      timers: this.#timers,
      log: this.#log,
      onBug: (place) => this.#bugs.at(place),
      isTestedVersion: isTestedEnvoy,
      epoch: randomUUID().slice(0, 8),
      loadReportIntervalMs: LOAD_REPORT_INTERVAL_MS,
    })
    return plane
  }
}

/** While nothing is learned, the control plane only withdraws virtual hosts and lets their clusters drain. */
export function policyFor(policy: Policy): ZonePolicy {
  if (policy.kind === 'policy') return policy.policy
  const { configuration, requestTimeoutMs } = policy.cold
  return {
    routes: { routeConfiguration: configuration?.name ?? ROUTE_CONFIGURATION, coldRoutes: [] },
    cluster: {},
    ...(requestTimeoutMs !== undefined && { requestTimeoutMs }),
  }
}

/** Domains of the operator's virtual hosts that may match ids. */
function pinnedIn(policy: Policy): string[] {
  const pins = policy.kind === 'policy' ? (policy.policy.routes.pins ?? []) : []
  return pins.flatMap(({ domains }) => domains).filter((domain) => /[/*]/.test(domain))
}

function isSame(a: ReadonlySet<string>, b: ReadonlySet<string> | undefined): boolean {
  return a.size === b?.size && [...a].every((name) => b.has(name))
}
