import { smallBuffersOfListeners } from '../envoy-files/body-buffer.ts'
import { type Generated, generate } from '../envoy-files/generated.ts'
import { type PolicyFiles, type PolicyReading, readPolicy } from '../envoy-files/policy.ts'
import { placeOfRoutes, render } from '../envoy-files/render.ts'
import { BOOTSTRAP, unknownFields, unknownFieldsOfResources } from '../envoy-files/unknown-fields.ts'
import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import { upstreamsOf } from '../routing/rules.ts'
import { type SourceFile, YamlFile } from '../xds/yaml-file.ts'
import { notesOfPolicies } from './envoy-policies.ts'
import { fallbackDns, tracingOf } from './envoy-settings.ts'
import type { Fault } from './faults.ts'
import { rulesOf } from './rules.ts'
import type { Config } from './schema.ts'

export type { SourceFile } from '../xds/yaml-file.ts'

const EXT_PROC = /\/envoy\.extensions\.filters\.http\.ext_proc\.v3\.ExternalProcessor$/
/** Envoy's format for the address that the processor chose. */
const ADDRESS_FORMAT = '%DYNAMIC_METADATA(zonegate:address)%'
/** Envoy's defaults: `message_timeout` of ext_proc, `stream_idle_timeout` of the connection manager. */
const TIMEOUT_SECONDS_DEFAULT = { message_timeout: 0.2, stream_idle_timeout: 300 } as const

/** The operator's files for Envoy. */
export interface OperatorFiles extends PolicyFiles {
  readonly bootstrap: SourceFile
}

/** What the processor finds in Envoy's own files. */
export interface EnvoyFilesCheck {
  readonly faults: readonly Fault[]
  /** Not errors, but the operator should know them. */
  readonly notes: readonly Fault[]
}

/** Placeholders: this checks the files, and the real names are those of the processor's machine. */
const SOME_NAMES = { nameservers: ['192.0.2.53:53'], search: 'zones.test' }

type Place = ReturnType<YamlFile['items']>[number]

/** Reads Envoy's files as the processor does for learned zones, and compares them with zonegate.yaml. */
export function checkEnvoyFiles(config: Config, files: OperatorFiles): EnvoyFilesCheck {
  const generated = generatedBy(config)
  const reading = readPolicyBy(generated, files)
  const policyFaults =
    reading.kind === 'faults' ? reading.faults : reading.kind === 'cold only' ? reading.mistakes : []
  const reasons = reading.kind === 'cold only' ? reading.reasons : []
  const [file, routesFile] = [new YamlFile(files.bootstrap), new YamlFile(files.routes)]
  const clustersFile = new YamlFile(files.clusters)
  const listenerFile = new YamlFile(files.listener)
  if (listenerFile.faults.length === 0) checkListener(listenerFile, config)
  const found = [routesFile, clustersFile, listenerFile, file].flatMap((each) => each.faults)
  const faults = [
    ...policyFaults,
    ...found,
    ...(found.length === 0 ? renderFault(files, generated) : []),
  ].map(faultOfLine)
  const notes = reasons
    .filter((line) => !policyFaults.includes(line))
    .map((line) => faultOfLine(`${line}; no zone is learned`))
  const policies = notesOfPolicies(
    { routes: routesFile, clusters: clustersFile, listener: listenerFile },
    config,
  ).map(faultOfLine)
  const unknown = [...unknownFieldsOfResources(listenerFile), ...unknownFields(file, BOOTSTRAP)].map(
    faultOfLine,
  )
  return {
    faults: distinct(faults),
    notes: [...notes, ...policies, ...unknown, ...processorAddressNotes(file, config)],
  }
}

/** What learned zones take from Envoy's files, for the rules of a configuration. */
export function readPolicyFor(config: Config, files: PolicyFiles): PolicyReading {
  return readPolicyBy(generatedBy(config), files)
}

function generatedBy(config: Config): Generated {
  return generate(rulesOf(config), fallbackDns(config, SOME_NAMES), tracingOf(config))
}

function readPolicyBy({ routes, asks, askSettings }: Generated, files: PolicyFiles): PolicyReading {
  return readPolicy(files, { routeHeader: ROUTE_HEADER, routes, asks, askSettings, placeOfRoutes })
}

/** Finds out whether Envoy's files can be rendered from these, which may lack something that rendering needs. */
function renderFault(files: OperatorFiles, generated: Generated): string[] {
  try {
    render(files, generated, { processor: 'unix:' })
    return []
  } catch (error) {
    return [(error as Error).message]
  }
}

function checkListener(file: YamlFile, config: Config): void {
  for (const { place, what } of smallBuffersOfListeners(file)) file.fault(place, what)
  for (const manager of connectionManagers(file)) {
    for (const filter of file.items(file.at(manager, 'http_filters'))) {
      const typed = file.at(filter, 'typed_config')
      if (typed === undefined || !EXT_PROC.test(file.text(typed, '@type') ?? '')) continue
      checkMessageTimeout(file, typed, config)
      checkStreamIdleTimeout(file, manager, typed)
      checkAddress(file, manager)
      checkMaintenance(file, manager, typed, config)
      checkTlsReason(file, manager, config)
    }
  }
}

/** The connection managers of all listeners. */
function connectionManagers(file: YamlFile): Place[] {
  return file
    .items(file.at(file.root, 'resources'))
    .flatMap((listener) => file.items(file.at(listener, 'filter_chains')))
    .flatMap((chain) => file.items(file.at(chain, 'filters')))
    .map((filter) => file.at(filter, 'typed_config'))
    .filter((typed) => typed !== undefined)
}

/** A listener from before `zones` existed would change the processor's answer for a zone in maintenance. */
function checkMaintenance(file: YamlFile, manager: Place, extProc: Place, { zones }: Config): void {
  const said = Object.values(zones).filter(({ maintenance }) => maintenance !== undefined)
  if (said.length === 0) return
  requireMapper(file, manager, "code_details == 'maintenance'", {
    reason: 'maintenance',
    because: 'zones of zonegate.yaml has maintenance',
  })
  const allowed = file.at(file.at(extProc, 'mutation_rules'), 'allow_expression')
  const regex = allowed === undefined ? undefined : file.text(allowed, 'regex')
  const hasRetryAfter = said.some(({ retryAfterSeconds }) => retryAfterSeconds !== undefined)
  if (hasRetryAfter && regex !== undefined && !regex.includes('retry-after'))
    file.fault(
      allowed ?? extProc,
      'regex: expected allow|retry-after, as zones of zonegate.yaml has retryAfterSeconds',
    )
}

/** Without this mapper, a zone with an untrusted certificate would look like one that can't be reached. */
function checkTlsReason(file: YamlFile, manager: Place, config: Config): void {
  if (upstreamsOf(rulesOf(config)).every(({ tls }) => tls === null)) return
  requireMapper(file, manager, 'transport_failure_reason', {
    reason: 'upstream_tls_failed',
    because: 'rules of zonegate.yaml have upstream.tls',
  })
}

/** @param text a part of the mapper's expression */
function requireMapper(
  file: YamlFile,
  manager: Place,
  text: string,
  { reason, because }: { readonly reason: string; readonly because: string },
): void {
  const replies = file.at(manager, 'local_reply_config')
  const expressions = file
    .items(file.at(replies, 'mappers'))
    .map((mapper) => file.at(file.at(file.at(mapper, 'filter'), 'extension_filter'), 'typed_config'))
    .map((filter) => (filter === undefined ? '' : (file.text(filter, 'expression') ?? '')))
  if (expressions.some((expression) => expression.includes(text))) return
  file.fault(
    replies ?? manager,
    `mappers: expected one for the reason ${reason}, as in this version's envoy/listener.yaml: ${because}`,
  )
}

/** The processor sends the address as metadata. A filter must copy it into the header that the route `forward` reads. */
function checkAddress(file: YamlFile, manager: Place): void {
  const filters = file.at(manager, 'http_filters')
  const headers = file
    .items(filters)
    .map((filter) => file.at(file.at(filter, 'typed_config'), 'mutations'))
    .flatMap((mutations) => file.items(file.at(mutations, 'request_mutations')))
    .map((mutation) => file.at(file.at(mutation, 'append'), 'header'))
  const isThere = headers.some(
    (header) => file.text(header, 'key') === ROUTE_HEADER && file.text(header, 'value') === ADDRESS_FORMAT,
  )
  if (!isThere && filters !== undefined)
    file.fault(filters, `expected a filter that puts ${ADDRESS_FORMAT} into ${ROUTE_HEADER}`)
}

function checkMessageTimeout(file: YamlFile, filter: Place, { dns }: Config): void {
  const timeout = timeoutIn(file, filter, 'message_timeout')
  if (timeout.seconds * 1000 > dns.budgetMs) return
  timeout.fault(`expected more than dns.budgetMs of zonegate.yaml (${dns.budgetMs} ms)`)
}

/** While a request waits for the processor its stream is idle, and it has no route yet whose `idle_timeout` could apply. */
function checkStreamIdleTimeout(file: YamlFile, manager: Place, filter: Place): void {
  const timeout = timeoutIn(file, manager, 'stream_idle_timeout')
  const message = timeoutIn(file, filter, 'message_timeout')
  if (timeout.seconds === 0 || timeout.seconds > message.seconds) return
  timeout.fault(`expected 0s or more than message_timeout of ext_proc (${message.seconds}s)`)
}

/** The value of a field, or Envoy's default, and a function that reports a fault of it. */
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

/** Compares Envoy's socket of the processor with `listen.grpc`. They may differ, because Envoy may run on another machine. */
function processorAddressNotes(file: YamlFile, { listen }: Config): Fault[] {
  const clusters = file.items(file.at(file.at(file.root, 'static_resources'), 'clusters'))
  const processor = clusters.find((cluster) => file.text(cluster, 'name') === 'processor')
  const endpoint = file
    .items(file.at(file.at(processor, 'load_assignment'), 'endpoints'))
    .flatMap((locality) => file.items(file.at(locality, 'lb_endpoints')))
    .map((entry) => file.at(file.at(entry, 'endpoint'), 'address'))[0]
  const pipe = file.at(file.at(endpoint, 'pipe'), 'path')
  if (pipe === undefined || listen.grpc === `unix:${file.text(pipe)}`) return []
  const message = `Envoy connects to the processor on ${file.text(pipe)}, but listen.grpc is ${listen.grpc}`
  return [faultOfLine(`${file.position(pipe)}: ${pipe.path}: ${message}`)]
}

/** Parses `file:line:column: key: message`. */
function faultOfLine(text: string): Fault {
  const [, file, line, column, rest = text] = /^(.+?):(\d+):(\d+): (.*)$/s.exec(text) ?? []
  if (file === undefined) return { file: '', key: '', message: text }
  const [, key, message] = /^([\w@.[\]]+): (.*)$/s.exec(rest) ?? []
  const place = { file, line: Number(line), column: Number(column) }
  return key === undefined || message === undefined
    ? { ...place, key: '', message: rest }
    : { ...place, key, message }
}

/** Removes duplicates, which arise because two readers of one file find the same broken line. */
function distinct(faults: readonly Fault[]): Fault[] {
  return [...new Map(faults.map((fault) => [JSON.stringify(fault), fault])).values()]
}
