import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import { readPolicy } from '../xds/policy.ts'
import { type SourceFile, YamlFile } from '../xds/yaml-file.ts'
import { compareAddressFences } from './address-fence.ts'
import type { Fault } from './faults.ts'
import type { Config } from './schema.ts'

export type { SourceFile } from '../xds/yaml-file.ts'

const EXT_PROC = /\/envoy\.extensions\.filters\.http\.ext_proc\.v3\.ExternalProcessor$/
/** Envoy's defaults: `message_timeout` of ext_proc, `stream_idle_timeout` of the connection manager. */
const TIMEOUT_SECONDS_DEFAULT = { message_timeout: 0.2, stream_idle_timeout: 300 } as const

/** What Envoy's own files are to the processor. */
export interface EnvoyFilesCheck {
  readonly faults: readonly Fault[]
  /** Not wrong, yet to be known. */
  readonly notes: readonly Fault[]
}

type Place = ReturnType<YamlFile['items']>[number]

/** Reads Envoy's files as the processor does for learned zones, and compares them with its own configuration. */
export function checkEnvoyFiles(config: Config, routes: SourceFile, bootstrap: SourceFile): EnvoyFilesCheck {
  const reading = readPolicy(routes, bootstrap, {
    routeHeader: ROUTE_HEADER,
    idHeader: config.rules.header,
  })
  const policyFaults = reading.kind === 'faults' ? reading.faults : []
  const notCopied = reading.kind === 'policy' ? reading.notCopied : []
  const file = new YamlFile(bootstrap)
  const routesFile = new YamlFile(routes)
  if (file.faults.length === 0) checkBootstrap(file, config)
  if (routesFile.faults.length === 0) {
    checkMethods(routesFile, config)
    checkRepeatedIds(routesFile, config)
  }
  const faults = [...policyFaults, ...routesFile.faults, ...file.faults].map(faultOfLine)
  const notes = notCopied.map((line) => ({
    ...faultOfLine(`${line}: learned zones don't take this over`),
  }))
  return {
    faults: distinct(faults),
    notes: [
      ...notes,
      ...processorAddressNotes(file, config),
      ...compareAddressFences(file, config.addresses.allow).map(faultOfLine),
    ],
  }
}

function checkBootstrap(file: YamlFile, config: Config): void {
  for (const manager of connectionManagers(file)) {
    checkRouteHeader(file, manager, config)
    for (const filter of file.items(file.at(manager, 'http_filters'))) {
      const typed = file.at(filter, 'typed_config')
      if (typed === undefined || !EXT_PROC.test(file.text(typed, '@type') ?? '')) continue
      checkMessageTimeout(file, typed, config)
      checkStreamIdleTimeout(file, manager, typed)
      checkForwardedHeaders(file, typed, config)
    }
  }
}

/** Of all listeners. */
function connectionManagers(file: YamlFile): Place[] {
  const resources = file.at(file.root, 'static_resources')
  return file
    .items(file.at(resources, 'listeners'))
    .flatMap((listener) => file.items(file.at(listener, 'filter_chains')))
    .flatMap((chain) => file.items(file.at(chain, 'filters')))
    .map((filter) => file.at(filter, 'typed_config'))
    .filter((typed) => typed !== undefined)
}

/** The listener finds learned zones by the id, so it must look where the processor looks. */
function checkRouteHeader(file: YamlFile, manager: Place, { rules }: Config): void {
  const headers = file
    .items(file.at(manager, 'early_header_mutation_extensions'))
    .flatMap((extension) => file.items(file.at(file.at(extension, 'typed_config'), 'mutations')))
    .map((mutation) => file.at(file.at(mutation, 'append'), 'header'))
  // One before it may mark what has been here already; the last one is what routes are found by.
  const header = headers.findLast((place) => file.text(place, 'key') === ROUTE_HEADER)
  const value = file.at(header, 'value')
  if (value === undefined || file.text(value)?.includes(`%REQ(${rules.header})%`)) return
  file.fault(value, `expected %REQ(${rules.header})% in it, the header of rules.header`)
}

/** Envoy refuses methods by itself; those that the processor forwards must get as far. */
function checkMethods(file: YamlFile, { rules }: Config): void {
  const match = file.at(conditionOf(file, 'method_not_allowed', ':method'), 'string_match')
  const pattern = file.text(file.at(match, 'safe_regex'), 'regex') ?? file.text(match, 'exact')
  if (match === undefined || pattern === undefined) return
  for (const method of rules.methods)
    if (!new RegExp(`^(?:${pattern})$`).test(method))
      file.fault(match, `expected to let ${method} through, which rules.methods has`)
}

/** Where Envoy refuses several ids by itself, it must look where the processor looks. */
function checkRepeatedIds(file: YamlFile, { rules }: Config): void {
  const name = file.at(conditionOf(file, 'server_header_invalid'), 'name')
  if (name === undefined || file.text(name) === rules.header) return
  file.fault(name, `expected ${rules.header}, the header of rules.header`)
}

/** A route's condition on a header, or its first one. */
function conditionOf(file: YamlFile, routeName: string, header?: string): Place | undefined {
  const route = file
    .items(file.at(file.root, 'resources'))
    .flatMap((resource) => file.items(file.at(resource, 'virtual_hosts')))
    .flatMap((host) => file.items(file.at(host, 'routes')))
    .find((candidate) => file.text(candidate, 'name') === routeName)
  return file
    .items(file.at(file.at(route, 'match'), 'headers'))
    .find((condition) => header === undefined || file.text(condition, 'name') === header)
}

function checkMessageTimeout(file: YamlFile, filter: Place, { dns }: Config): void {
  const timeout = timeoutIn(file, filter, 'message_timeout')
  if (timeout.seconds * 1000 > dns.budgetMs) return
  timeout.fault(`expected more than dns.budgetMs of zonegate.yaml (${dns.budgetMs} ms)`)
}

/** A request that waits for the processor is silent, and has no route with an `idle_timeout` of its own yet. */
function checkStreamIdleTimeout(file: YamlFile, manager: Place, filter: Place): void {
  const timeout = timeoutIn(file, manager, 'stream_idle_timeout')
  const message = timeoutIn(file, filter, 'message_timeout')
  if (timeout.seconds === 0 || timeout.seconds > message.seconds) return
  timeout.fault(`expected 0s or more than message_timeout of ext_proc (${message.seconds}s)`)
}

/** What a field says, or Envoy's default, and a way to say what is wrong with it. */
function timeoutIn(file: YamlFile, parent: Place, field: keyof typeof TIMEOUT_SECONDS_DEFAULT) {
  const place = file.at(parent, field)
  const text = file.text(place)
  const byDefault = TIMEOUT_SECONDS_DEFAULT[field]
  return {
    seconds: text === undefined ? byDefault : Number(text.replace(/s$/, '')),
    fault: (expected: string): void => {
      const what = `${expected}, got ${text ?? `${byDefault}s, Envoy's default`}`
      file.fault(place ?? parent, place === undefined ? `${field}: ${what}` : what)
    },
  }
}

function checkForwardedHeaders(file: YamlFile, filter: Place, { rules }: Config): void {
  const allowed = file.at(file.at(filter, 'forward_rules'), 'allowed_headers')
  if (allowed === undefined) return
  const patterns = file.at(allowed, 'patterns')
  const exact = file.items(patterns).map((pattern) => file.text(pattern, 'exact'))
  // What isn't compared literally may well let the header through.
  if (exact.includes(rules.header) || exact.includes(undefined)) return
  file.fault(patterns ?? allowed, `expected { exact: ${rules.header} }, the header of rules.header`)
}

/** Where Envoy looks for the processor. Launchers set it, so another address may be meant. */
function processorAddressNotes(file: YamlFile, { listen }: Config): Fault[] {
  const clusters = file.items(file.at(file.at(file.root, 'static_resources'), 'clusters'))
  const processor = clusters.find((cluster) => file.text(cluster, 'name') === 'processor')
  const endpoint = file
    .items(file.at(file.at(processor, 'load_assignment'), 'endpoints'))
    .flatMap((locality) => file.items(file.at(locality, 'lb_endpoints')))
    .map((entry) => file.at(file.at(entry, 'endpoint'), 'address'))[0]
  const pipe = file.at(file.at(endpoint, 'pipe'), 'path')
  if (pipe === undefined || listen.grpc === `unix:${file.text(pipe)}`) return []
  const message = `Envoy looks for the processor on ${file.text(pipe)}, listen.grpc is ${listen.grpc}`
  return [faultOfLine(`${file.position(pipe)}: ${pipe.path}: ${message}`)]
}

/** Reads `file:line:column: key: message` back. */
function faultOfLine(text: string): Fault {
  const [, file, line, column, rest = text] = /^(.+?):(\d+):(\d+): (.*)$/s.exec(text) ?? []
  if (file === undefined) return { file: '', key: '', message: text }
  const [, key, message] = /^([\w@.[\]]+): (.*)$/s.exec(rest) ?? []
  const place = { file, line: Number(line), column: Number(column) }
  return key === undefined || message === undefined
    ? { ...place, key: '', message: rest }
    : { ...place, key, message }
}

/** Two readers of one file find the same broken line. */
function distinct(faults: readonly Fault[]): Fault[] {
  return [...new Map(faults.map((fault) => [JSON.stringify(fault), fault])).values()]
}
