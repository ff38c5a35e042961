import type { NameserverStatus } from '../dns/dns.ts'
import { plainJson } from '../plain-json.ts'
import type { RuleStatus } from '../status/rule-counts.ts'
import type { Status, ZoneStatus } from '../status/status.ts'
import type { EnvoyStatus } from '../xds/envoy-stream.ts'
import { ProcessorClient } from './client.ts'
import { CLIENT_DETAILS, CLIENT_OPTIONS, type Command, type Terminal, UsageError } from './command.ts'
import { pinsText } from './pin.ts'
import { type Colour, type Column, duration, json, type Paint, paintFor, table } from './text.ts'

const VIEWS = ['zones', 'rules', 'nameservers', 'envoys'] as const
type View = (typeof VIEWS)[number]

const WATCH_INTERVAL_MS = 2000
/** The overview shows the busiest zones. */
const OVERVIEW_ZONES = 10
/** How long the overview tells that no processor ran before this one, as the page does: operators look later than it happens. */
const AWAY_SHOWN_SECONDS = 24 * 60 * 60
/** More addresses do not fit into a row. */
const ADDRESSES_SHOWN = 3
/** Moves the cursor to the top left corner and clears the screen. */
const CLEAR = '\u001b[H\u001b[2J'

export const statusCommand: Command = {
  summary: 'show zones, rules, nameservers and Envoys',
  usage: '[zones | rules | nameservers | envoys] [--watch]',
  details: `  zones            each zone: state, route, why it is cold, TTL left, requests a second, errors in the last five minutes
  rules            each rule: requests since the start, requests a second, refusals by the processor
  nameservers      round trip times and failures
  envoys           what each Envoy has acknowledged and refused
  --watch          repeat every ${WATCH_INTERVAL_MS / 1000} s until Ctrl-C
${CLIENT_DETAILS}`,
  example: 'zonegate status zones --watch',
  options: { ...CLIENT_OPTIONS, watch: { type: 'boolean' } },
  positionalsMax: 1,
  run: async (args, terminal) => {
    const [name] = args.positionals
    const view = VIEWS.find((known) => known === name)
    if (name !== undefined && view === undefined)
      throw new UsageError(`there is no view "${name}"; the views are ${VIEWS.join(', ')}`)
    const client = ProcessorClient.of(args, terminal)
    for (;;) {
      const status = await client.json<Status>('/api/status', 'GET', undefined, ({ config }) =>
        view === undefined ? config.faults : [],
      )
      const text = args.flag('json')
        ? jsonText(status, view, args.flag('watch'))
        : viewText(status, view, terminal)
      const again = args.flag('watch')
      terminal.stdout.write(
        again && terminal.stdout.isTTY && !args.flag('json') ? CLEAR + fit(text, terminal) : text,
      )
      if (!again) return 0
      await new Promise((resolve) => setTimeout(resolve, WATCH_INTERVAL_MS))
    }
  },
}

function jsonText(status: Status, view: View | undefined, oneLine: boolean): string {
  const value =
    view === undefined
      ? status
      : { at: status.at, [view]: view === 'nameservers' ? status.dns.nameservers : status[view] }
  return oneLine ? `${plainJson(value)}\n` : json(value)
}

function viewText(status: Status, view: View | undefined, terminal: Terminal): string {
  const paint = paintFor(terminal)
  if (view === 'zones') return zonesText(status, status.zones.length, paint)
  if (view === 'rules') return rulesText(status, paint)
  if (view === 'nameservers') return nameserversText(status, paint)
  if (view === 'envoys') return envoysText(status, paint)
  return [
    summaryText(status, paint),
    nameserversText(status, paint),
    envoysText(status, paint),
    rulesText(status, paint),
    refusalsText(status, paint),
    ...(status.pins.pins.length > 0 || status.pins.fault !== null
      ? [pinsText(status.pins, status.at, paint)]
      : []),
    zonesText(status, OVERVIEW_ZONES, paint),
  ].join('\n')
}

export function summaryText(
  { at, build, awayMs, ready, unready, config, dns, policy, certificates = [], spans, exceptions }: Status,
  paint: Paint,
): string {
  const upSeconds = (at - Date.parse(build.startedAt)) / 1000
  const state = ready ? paint('green', 'ready') : paint('red', 'not ready')
  // These lines and columns are not those of the saved file if that has faults.
  const inForce = policy.faults.length === 0 ? '' : ' (in the file in force)'
  const lines = [
    `zonegate ${build.version} on Node ${build.node}: ${state}, up for ${duration(upSeconds)}`,
    `configuration ${config.source}, read ${duration((at - Date.parse(config.loadedAt)) / 1000)} ago`,
    ...(awayMs === null || upSeconds > AWAY_SHOWN_SECONDS ? [] : [awayText(awayMs)]),
    ...Object.entries(unready).map(([part, why]) => paint('red', `not ready: ${part}: ${why}`)),
    ...config.faults.map((fault) => paint('red', `not taken: ${fault}`)),
    ...policy.faults.map((fault) => paint('red', `not taken: ${fault}`)),
    ...policy.reasons.map((reason) => paint('yellow', `no zone is learned: ${reason}${inForce}`)),
    ...(policy.pinned ?? []).map((domain) =>
      paint('yellow', `not learned: ${domain}, because a virtual host in envoy/routes.yaml has it`),
    ),
    ...(policy.unknown ?? []).map((field) => paint('yellow', `unknown field: ${field}`)),
    ...(dns.searchOffered === null ? [] : [paint('yellow', searchText(dns))]),
    ...config.needsRestart.map((key) => paint('yellow', `${key}: takes effect at the next start`)),
    ...policy.needsRestart.map((file) =>
      paint('yellow', `${file}: takes effect when Envoy is started again`),
    ),
    ...certificates.map(({ file, use, what }) =>
      paint('yellow', `certificates for zones: ${file} (upstream.tls.${use}): ${what}`),
    ),
    ...(spans === undefined ? [] : [paint('yellow', spansText(spans))]),
    ...Object.entries(exceptions)
      .filter(([, count]) => count > 0)
      .map(([place, count]) => paint('red', `bugs caught: ${count} of ${place}; the log has them`)),
  ]
  return `${lines.join('\n')}\n`
}

function spansText({ made, failed }: NonNullable<Status['spans']>): string {
  return `tracing: ${failed} of ${made} spans are lost, as the collector of tracing.otlp did not take them; the log says why`
}

function awayText(awayMs: number): string {
  return `no processor ran for ${duration(awayMs / 1000)} before this one. If Envoy ran, cold requests got 502, or with fallback.enabled Envoy resolved names itself and counted them: curl -s '127.0.0.1:9901/stats?filter=zones_by_name.upstream_rq_total'`
}

function searchText({ search, searchOffered }: Status['dns']): string {
  return `the search domain is still ${search}, but resolv.conf now begins with ${searchOffered}: send SIGHUP or set dns.search to use it`
}

function refusalsText({ decisions }: Status, paint: Paint): string {
  const reasons = Object.entries(decisions.refused).filter(([, count]) => count > 0)
  if (reasons.length === 0) return 'The processor has refused nothing since its start.\n'
  const columns: Column<[string, number]>[] = [
    { title: 'REFUSED BY REASON', text: ([reason]) => reason },
    { title: 'COUNT', align: 'right', text: ([, count]) => String(count) },
  ]
  return table(
    columns,
    reasons.sort((a, b) => b[1] - a[1]),
    paint,
  )
}

export function rulesText({ rules }: Pick<Status, 'rules'>, paint: Paint): string {
  const columns: Column<RuleStatus>[] = [
    { title: 'RULE', text: ({ name }) => name },
    { title: 'REQ/S', align: 'right', text: ({ requestsPerSecond }) => requestsPerSecond.toFixed(1) },
    { title: 'REQUESTS', align: 'right', text: ({ requests }) => String(requests) },
    { title: 'HOT', align: 'right', text: ({ hot }) => String(hot) },
    { title: 'REFUSED BY REASON', text: ({ refused }) => refusedText(refused) },
  ]
  return table(columns, rules, paint)
}

/** The most frequent first. */
function refusedText(refused: RuleStatus['refused']): string {
  const reasons = Object.entries(refused).sort((a, b) => b[1] - a[1])
  return reasons.map(([reason, count]) => `${reason} ${count}`).join(', ') || '-'
}

function nameserversText({ dns }: Status, paint: Paint): string {
  const columns: Column<NameserverStatus>[] = [
    { title: 'NAMESERVER', text: ({ nameserver }) => nameserver },
    {
      title: 'STATE',
      text: ({ failures }) => (failures === 0 ? 'healthy' : `${failures} failures in a row`),
      colour: ({ failures }) => (failures === 0 ? 'green' : 'red'),
    },
    {
      title: 'RTT',
      align: 'right',
      text: ({ smoothedRttMs }) => (smoothedRttMs === null ? '-' : `${smoothedRttMs.toFixed(1)} ms`),
    },
    {
      title: 'QUERIES BY OUTCOME',
      text: ({ outcomes }) =>
        Object.entries(outcomes)
          .map(([outcome, count]) => `${outcome} ${count}`)
          .join(', '),
    },
  ]
  return table(columns, dns.nameservers, paint)
}

export function envoysText({ envoys, build }: Pick<Status, 'envoys' | 'build'>, paint: Paint): string {
  if (envoys.length === 0) return 'No Envoy is connected, so every request asks the processor.\n'
  const held = (kind: keyof EnvoyStatus['resources']) => (envoy: EnvoyStatus) =>
    String(envoy.resources[kind].held)
  const sum = ({ resources }: EnvoyStatus, count: 'nacks' | 'rejected'): number =>
    Object.values(resources).reduce((total, resource) => total + resource[count], 0)
  const columns: Column<EnvoyStatus>[] = [
    { title: 'ENVOY', text: ({ envoy }) => envoy },
    {
      title: 'VERSION',
      text: ({ version, testedVersion }) =>
        testedVersion ? (version ?? '-') : `${version} (not the tested ${build.envoy})`,
      colour: ({ testedVersion }) => (testedVersion ? undefined : 'yellow'),
    },
    { title: 'CONNECTED', align: 'right', text: ({ connectedMs }) => duration(connectedMs / 1000) },
    { title: 'CLUSTERS', align: 'right', text: held('cluster') },
    { title: 'ENDPOINTS', align: 'right', text: held('endpoints') },
    { title: 'ROUTES', align: 'right', text: held('virtualHost') },
    {
      title: 'REFUSED',
      align: 'right',
      text: (envoy) => String(sum(envoy, 'rejected')),
      colour: (envoy) => (sum(envoy, 'rejected') > 0 ? 'red' : undefined),
    },
    { title: 'NACKS', align: 'right', text: (envoy) => String(sum(envoy, 'nacks')) },
    { title: 'LAST NACK', text: ({ lastRejection }) => lastRejection ?? '-' },
  ]
  return table(columns, envoys, paint)
}

const STATE_COLOURS: Readonly<Record<ZoneStatus['state'], Colour>> = {
  fresh: 'green',
  pinned: 'yellow',
  maintenance: 'yellow',
  uncached: 'yellow',
  expired: 'dim',
  stale: 'yellow',
  unknown: 'dim',
  denied: 'red',
  nxdomain: 'red',
  nodata: 'red',
  failed: 'red',
}

/** The busiest first. */
export function zonesText(
  { at, zones, zonesLearned }: Pick<Status, 'at' | 'zones' | 'zonesLearned'>,
  rowsMax: number,
  paint: Paint,
): string {
  if (zones.length === 0) return 'No zone had requests lately.\n'
  const columns: Column<ZoneStatus>[] = [
    { title: 'ID', text: ({ id }) => id },
    { title: 'SERVICE', text: ({ service }) => service },
    { title: 'STATE', text: ({ state }) => state, colour: ({ state }) => STATE_COLOURS[state] },
    {
      title: 'ROUTE',
      text: ({ route, coldReason }) => (coldReason === null ? route : `${route}, ${coldReason}`),
    },
    {
      title: 'TTL LEFT',
      align: 'right',
      text: ({ expiresAt }) => (expiresAt === null ? '-' : duration((expiresAt - at) / 1000)),
    },
    { title: 'REQ/S', align: 'right', text: ({ requestsPerSecond }) => requestsPerSecond.toFixed(1) },
    {
      title: 'ERRORS',
      align: 'right',
      text: ({ errors }) => String(errors),
      colour: ({ errors }) => (errors > 0 ? 'red' : undefined),
    },
    { title: 'ADDRESSES', text: ({ addresses }) => addressesText(addresses) },
    { title: 'NAME', text: ({ name }) => name },
  ]
  const sorted = zones.toSorted((a, b) => b.requestsPerSecond - a.requestsPerSecond || byId(a, b))
  const shown = sorted.slice(0, rowsMax)
  const more = zones.length - shown.length
  const rest = more > 0 ? `and ${more} more: "zonegate status zones"` : `${zonesLearned} learned`
  return `${table(columns, shown, paint)}${uncachedText(zones, paint)}${paint('dim', `${zones.length} zones, ${rest}`)}\n`
}

function uncachedText(zones: readonly ZoneStatus[], paint: Paint): string {
  const uncached = zones.filter(({ state }) => state === 'uncached').length
  if (uncached === 0) return ''
  const text = `uncached: ${uncached}. Their TTL is 0, so each request asks a nameserver and they are never learned`
  return `${paint('yellow', text)}\n`
}

function byId(a: ZoneStatus, b: ZoneStatus): number {
  return a.id.localeCompare(b.id, 'en', { numeric: true }) || a.service.localeCompare(b.service)
}

function addressesText(addresses: readonly string[]): string {
  const more = addresses.length - ADDRESSES_SHOWN
  return addresses.slice(0, ADDRESSES_SHOWN).join(', ') + (more > 0 ? `, ${more} more` : '')
}

/** Cuts the text to the lines of the terminal. */
function fit(text: string, { stdout }: Terminal): string {
  const lines = text.split('\n')
  return lines.length <= stdout.rows ? text : `${lines.slice(0, stdout.rows - 1).join('\n')}\n`
}
