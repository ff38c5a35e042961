import { readFileSync } from 'node:fs'
import { ROUTES_FILE } from '../config/announce-routes.ts'
import { checkEnvoyFiles, type SourceFile } from '../config/envoy-files.ts'
import { ConfigError, type Fault, faultText } from '../config/faults.ts'
import { loadConfig, parseConfig } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { CertificateError, readCertificates } from '../grpc/certificates.ts'
import { type Arguments, type Command, configPath, type Terminal } from './command.ts'
import { BOOTSTRAP_FILE } from './envoy-control.ts'
import { findEnvoy, validateWithEnvoy } from './envoy-validate.ts'
import { noSearchDomain, openDns } from './open-dns.ts'
import { json, type Paint, paintFor, plain } from './text.ts'

/** What was found, and by whom. */
interface Report {
  readonly ok: boolean
  readonly checked: readonly string[]
  readonly notChecked: readonly string[]
  readonly faults: readonly Fault[]
  readonly notes: readonly Fault[]
}

export const validateCommand: Command = {
  summary: 'checks the configuration, and the files in envoy/ that go with it',
  usage: '[FILE]',
  details: `  FILE             configuration; else ZONEGATE_CONFIG, else ./zonegate.yaml where there is one, else the defaults
  --json           for programs

Reads the files of listen.tls, and says which certificates expire within a week. Checks envoy/routes.yaml and envoy/envoy.yaml too, where the working directory has them, and asks Envoy's own
--mode validate where Envoy is in PATH. Exit 0: all is sound. Exit 1: each fault is told with file, line and column.`,
  example: 'zonegate validate /etc/zonegate.yaml',
  options: { json: { type: 'boolean' } },
  positionalsMax: 1,
  run: async (args, terminal) => {
    const report = await validate(args, terminal)
    terminal.stdout.write(args.flag('json') ? json(report) : reportText(report, paintFor(terminal)))
    return report.ok ? 0 : 1
  },
}

async function validate(args: Arguments, terminal: Terminal): Promise<Report> {
  const path = args.positionals[0] ?? configPath(args, terminal)
  const { config, source, faults } = readConfig(path, terminal)
  const certificates = checkCertificates(config)
  const own = [...faults, ...certificates.faults]
  const ownNotes = [...notesOfDns(config, terminal), ...certificates.notes]
  const routes = sourceFile(ROUTES_FILE)
  const bootstrap = sourceFile(BOOTSTRAP_FILE)
  if (routes === undefined || bootstrap === undefined) {
    const notChecked = `${ROUTES_FILE} and ${BOOTSTRAP_FILE}: not both in the working directory`
    return { ok: own.length === 0, checked: [source], notChecked: [notChecked], faults: own, notes: ownNotes }
  }
  const { faults: files, notes } = checkEnvoyFiles(config, routes, bootstrap)
  const binary = findEnvoy(terminal.environment['PATH'] ?? '')
  const byEnvoy = binary === undefined ? [] : await validateWithEnvoy(binary, routes, bootstrap)
  const known = new Set([...own, ...files].map(placeOf))
  const all = [...own, ...files, ...byEnvoy.filter((fault) => !known.has(placeOf(fault)))]
  return {
    ok: all.length === 0,
    checked: [source, ROUTES_FILE, BOOTSTRAP_FILE, ...(binary === undefined ? [] : [`both by ${binary}`])],
    notChecked: binary === undefined ? ["by Envoy's --mode validate: there is no Envoy in PATH"] : [],
    faults: all,
    notes: [...ownNotes, ...notes],
  }
}

function placeOf({ file, line, column }: Fault): string {
  return `${file}:${line}:${column}`
}

/** Where it is at fault, what goes with it is compared with the defaults. */
function readConfig(
  path: string | undefined,
  { environment }: Terminal,
): { config: Config; source: string; faults: readonly Fault[] } {
  try {
    return { ...loadConfig(path, environment), faults: [] }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    const config = parseConfig('', 'defaults')
    return { config, source: path ?? error.details[0]?.file ?? '', faults: error.details }
  }
}

/** Not a fault: it may be checked on another machine than it will run on. */
function notesOfDns(config: Config, { environment }: Terminal): Fault[] {
  const dns = openDns(config, environment)
  const search = dns.searchDomain()
  dns.close()
  return search === null ? [{ file: 'on this machine', key: '', message: noSearchDomain(config) }] : []
}

/** That a certificate has expired is a note: it may be renewed while the processor runs. */
function checkCertificates({ listen }: Config): { faults: readonly Fault[]; notes: readonly Fault[] } {
  if (listen.tls === null) return { faults: [], notes: [] }
  try {
    return { faults: [], notes: readCertificates(listen.tls, new Date()).warnings }
  } catch (error) {
    if (!(error instanceof CertificateError)) throw error
    return { faults: error.faults, notes: [] }
  }
}

function sourceFile(path: string): SourceFile | undefined {
  try {
    return { path, text: readFileSync(path, 'utf8') }
  } catch {
    return undefined
  }
}

function reportText({ ok, checked, notChecked, faults, notes }: Report, paint: Paint): string {
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
