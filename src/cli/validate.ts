import { notesOfConfig } from '../config/config-notes.ts'
import { checkEnvoyFiles, type SourceFile } from '../config/envoy-files.ts'
import { readFallbackDns, tracingOf } from '../config/envoy-settings.ts'
import { ConfigError, type Fault, faultText } from '../config/faults.ts'
import { type LoadedConfig, loadConfig, parseConfig } from '../config/load.ts'
import { rulesOf } from '../config/rules.ts'
import type { Config } from '../config/schema.ts'
import { ENVOY_FOLDER, pathsIn, readEnvoyFile } from '../envoy-files/folder.ts'
import { generate } from '../envoy-files/generated.ts'
import { CertificateError, readCertificates } from '../grpc/certificates.ts'
import { openDns, searchFault } from '../processor/open-dns.ts'
import { certificatesOfUpstreams } from '../processor/upstream-certificates.ts'
import { type Command, configPath, type Terminal } from './command.ts'
import { findEnvoy, validateWithEnvoy } from './envoy-validate.ts'
import { json, type Paint, paintFor, plain } from './text.ts'

const IS_EMPTY =
  'is empty: a running Zonegate keeps its configuration, and only a start takes the defaults; for the defaults write {}'

/** The result of `zonegate validate`. */
export interface Report {
  readonly ok: boolean
  readonly checked: readonly string[]
  readonly notChecked: readonly string[]
  readonly faults: readonly Fault[]
  readonly notes: readonly Fault[]
}

export const validateCommand: Command = {
  summary: 'find errors in zonegate.yaml and envoy/ before you apply them',
  usage: '[FILE]',
  details: `  FILE             the configuration; default: $ZONEGATE_CONFIG, then ./zonegate.yaml, then the built-in defaults
  --json           print JSON

Also checks the files of listen.tls and upstream.tls, and reports certificates that expire within a week. If the working
directory has a folder envoy/, this command checks its envoy.yaml, listener.yaml, routes.yaml and clusters.yaml, too, and has
Envoy check them (--mode validate) if it is installed. It changes nothing and needs no running gateway.
Exit code 0: no errors. 1: errors, each with file, line and column.`,
  example: 'zonegate validate /etc/zonegate.yaml',
  options: { json: { type: 'boolean' } },
  positionalsMax: 1,
  run: async (args, terminal) => {
    const report = await validate(args.positionals[0] ?? configPath(args, terminal), ENVOY_FOLDER, terminal)
    terminal.stdout.write(args.flag('json') ? json(report) : reportText(report, paintFor(terminal)))
    return report.ok ? 0 : 1
  },
}

/**
 * @param path of the configuration
 * @param folder of Envoy's files
 */
export async function validate(
  path: string | undefined,
  folder: string,
  terminal: Terminal,
): Promise<Report> {
  const { config, source, isEmpty, faults } = readConfig(path, terminal)
  const certificates = checkCertificates(config)
  const ofUpstreams = checkUpstreamCertificates(config)
  const own = [...faults, ...certificates.faults, ...ofUpstreams.faults]
  const ofCertificates = [...certificates.notes, ...ofUpstreams.notes]
  // A configuration with errors is replaced by the defaults here, whose notes would be misleading.
  const ownNotes =
    faults.length > 0
      ? ofCertificates
      : [
          ...(isEmpty ? [{ file: source, key: '', message: IS_EMPTY }] : []),
          ...notesOfDns(config, terminal),
          ...notesOfConfig(config, source),
          ...ofCertificates,
        ]
  const unreadable: Fault[] = []
  const read = (path: string): SourceFile | undefined => {
    try {
      return { path, text: readEnvoyFile(path) }
    } catch (error) {
      const message = (error as Error).message.replace(`${path}: `, '')
      unreadable.push({ file: path, key: '', message })
      return undefined
    }
  }
  const paths = pathsIn(folder)
  const [routes, clusters] = [read(paths.routes), read(paths.clusters)]
  const [listener, bootstrap] = [read(paths.listener), read(paths.bootstrap)]
  const names = [paths.routes, paths.clusters, paths.listener, paths.bootstrap]
  if (routes === undefined || clusters === undefined || listener === undefined || bootstrap === undefined) {
    const none = `${names.slice(0, -1).join(', ')} and ${paths.bootstrap}: not in the working directory`
    const isElsewhere = unreadable.length === 4
    const all = isElsewhere ? own : [...own, ...unreadable]
    const notChecked = isElsewhere ? [none] : []
    return { ok: all.length === 0, checked: [source], notChecked, faults: all, notes: ownNotes }
  }
  const envoyFiles = { routes, clusters, listener, bootstrap }
  const { faults: files, notes } = checkEnvoyFiles(config, envoyFiles)
  const binary = findEnvoy(terminal.environment['PATH'] ?? '')
  const byEnvoy =
    binary === undefined
      ? []
      : await validateWithEnvoy(
          binary,
          envoyFiles,
          generate(rulesOf(config), readFallbackDns(config, terminal.environment), tracingOf(config)),
        )
  const known = new Set([...own, ...files].map(placeOf))
  const all = [...own, ...files, ...byEnvoy.filter((fault) => !known.has(placeOf(fault)))]
  return {
    ok: all.length === 0,
    checked: [source, ...names, ...(binary === undefined ? [] : [`all four by ${binary}`])],
    notChecked: binary === undefined ? ['by Envoy (--mode validate): there is no Envoy in PATH'] : [],
    faults: all,
    notes: [...ownNotes, ...notes],
  }
}

function placeOf({ file, line, column }: Fault): string {
  return `${file}:${line}:${column}`
}

/** Of a configuration with errors, the errors and the defaults: the other files are compared with those. */
function readConfig(
  path: string | undefined,
  { environment }: Terminal,
): LoadedConfig & { readonly faults: readonly Fault[] } {
  try {
    return { ...loadConfig(path, environment), faults: [] }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    const config = parseConfig('', 'defaults')
    const source = path ?? error.details[0]?.file ?? ''
    return { config, source, isEmpty: false, faults: error.details }
  }
}

/** A note, not an error: the configuration may be checked on another machine than it will run on. */
function notesOfDns(config: Config, { environment }: Terminal): Fault[] {
  const dns = openDns(config, environment)
  const fault = searchFault(config, dns.searchDomain())
  dns.close()
  return fault === null ? [] : [{ file: 'on this machine', key: '', message: fault }]
}

/** An expired certificate is only a note: it may be renewed while the processor runs. */
function checkCertificates({ listen }: Config): { faults: readonly Fault[]; notes: readonly Fault[] } {
  if (listen.tls === null) return { faults: [], notes: [] }
  try {
    return { faults: [], notes: readCertificates(listen.tls, new Date()).warnings }
  } catch (error) {
    if (!(error instanceof CertificateError)) throw error
    return { faults: error.faults, notes: [] }
  }
}

/** The certificates of `upstream.tls`, as far as this user can read them. */
function checkUpstreamCertificates(config: Config): { faults: Fault[]; notes: Fault[] } {
  const all = certificatesOfUpstreams(rulesOf(config), new Date())
  const told = (of: 'fault' | 'warning'): Fault[] =>
    all.flatMap(({ file, use, [of]: message }) =>
      message === null ? [] : [{ file, key: `upstream.tls.${use}`, message }],
    )
  return { faults: told('fault'), notes: told('warning') }
}

export function reportText({ ok, checked, notChecked, faults, notes }: Report, paint: Paint): string {
  const lines = [
    ...faults.map((fault) => `${paint('red', 'fault')}  ${plain(faultText(fault))}`),
    ...notes.map((note) => `${paint('yellow', 'note')}   ${plain(faultText(note))}`),
    ...notChecked.map((what) => `${paint('yellow', 'note')}   not checked: ${what}`),
    ok
      ? `${paint('green', 'ok')}     ${checked.join(', ')}`
      : `${paint('red', 'failed')} ${faults.length} ${faults.length === 1 ? 'fault' : 'faults'}`,
  ]
  return lines.map((line) => `${line}\n`).join('')
}
