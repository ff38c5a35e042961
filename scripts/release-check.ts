/** Whether what is checked out can be released: looks at everything, changes nothing but the SBOM. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type Fault, faultText } from '../src/config/faults.ts'
import { ENVOY_VERSION } from '../src/status/version.ts'
import {
  changelogFaults,
  envoyFaults,
  licenceFaults,
  lockFaults,
  lockStepFaults,
  type Manifest,
  sbomFaults,
  shippedPart,
} from './release-rules.ts'

const USAGE = `npm run release:check [-- OPTIONS]

Looks whether what is checked out can be released: a clean tree, a dated section of CHANGELOG.md for the version, a lock file
with hashes and without install scripts, licences, known vulnerabilities, one version of Envoy everywhere, types and
lint, generated files, sample configurations, the package, the image. Writes the list of all parts to sbom.cdx.json
(CycloneDX). Takes half a minute. Runs no other tests: npm test does.

  --strict      what could not be checked is a failure, too
  --only TEXT   the checks with TEXT in their name
  --help

Exits with 0, with 1 when something is at fault, with 2 for options that it does not have.`

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const SBOM = 'sbom.cdx.json'
/** Node's own, which the image is made from, is some 230 MB of it. */
const IMAGE_OCTETS_MAX = 350_000_000
const IMAGE = 'zonegate'
const SAMPLES = ['demo/zonegate.yaml', 'deploy/kubernetes/zonegate.yaml']

/** Faults, or why it could not be checked. */
type Outcome = readonly string[] | { readonly notChecked: string }

const read = (path: string): string => readFileSync(path, 'utf8')
const lock = () => JSON.parse(read('package-lock.json'))
const manifest = (): Manifest & { version: string } => JSON.parse(read('package.json'))

type Check = readonly [what: string, check: () => Outcome]
const CHECKS: readonly Check[] = [
  ['the tree is clean', treeIsClean],
  [
    'CHANGELOG.md has the version',
    () => changelogFaults(read('CHANGELOG.md'), manifest().version, ENVOY_VERSION),
  ],
  [
    'package-lock.json has a hash for each package, no registry, no unknown install script',
    () => lockFaults(lock()),
  ],
  ['package-lock.json is complete, and that of package.json', () => lockStepFaults(lock(), manifest())],
  ['npm can install from package-lock.json', () => succeeds('npm', ['ci', '--dry-run', '--loglevel=error'])],
  ['licences of what is shipped', () => licenceFaults(lock())],
  ['no known vulnerability', vulnerabilities],
  ['Envoy has one version', () => envoyFaults(filesWithEnvoy(), ENVOY_VERSION)],
  ['types, lint, format', () => succeeds('npm', ['run', '--silent', 'check'])],
  ['generated files are current', () => testPasses('src/config/json-schema.test.ts')],
  ...SAMPLES.map((file): Check => [`${file} and envoy/ are sound`, () => validate(file)]),
  [`SBOM, in ${SBOM}`, sbom],
  ['the package: contents, size, and that it runs', () => testPasses('test/integration/package.test.ts')],
  ['the image: of this commit, and its size', image],
]

function main(strict: boolean, only: string): number {
  const chosen = CHECKS.filter(([what]) => what.includes(only))
  if (chosen.length === 0) return wrongUsage(`no check has "${only}" in its name`)
  let faults = 0
  let unchecked = 0
  for (const [what, check] of chosen) {
    const outcome = check()
    if ('notChecked' in outcome) {
      unchecked += 1
      console.log(`not checked  ${what}: ${outcome.notChecked}`)
    } else if (outcome.length === 0) console.log(`ok           ${what}`)
    else {
      faults += 1
      console.log([`FAULT        ${what}`, ...outcome].join('\n             '))
    }
  }
  const good = faults === 0 && !(strict && unchecked > 0)
  const verdict =
    chosen.length < CHECKS.length
      ? `${chosen.length} of ${CHECKS.length} checks`
      : `${manifest().version} ${good ? 'can' : 'can NOT'} be released`
  console.log(`\n${verdict}: ${faults} at fault, ${unchecked} not checked. The tests: npm test`)
  return good ? 0 : 1
}

function treeIsClean(): Outcome {
  const { status, stdout } = run('git', ['status', '--porcelain'])
  if (status !== 0) return { notChecked: 'this is no checkout of git' }
  const unlike = stdout.split('\n').filter((line) => line !== '')
  return unlike.length === 0 ? [] : ['commit these, or put them away:', ...unlike]
}

/** The registry's list of advisories. One that has none to offer proves nothing. */
function vulnerabilities(): Outcome {
  const { stdout } = run('npm', ['audit', '--json', '--omit', 'dev'])
  const answer = parse(stdout) as {
    message?: string
    metadata?: object
    vulnerabilities?: Record<string, { severity: string }>
  }
  const { message = 'no answer', metadata, vulnerabilities: found = {} } = answer
  if (metadata === undefined) return { notChecked: `npm audit says ${message.split(' - ')[0]}` }
  return Object.entries(found).map(([name, { severity }]) => `${name}: ${severity}; see \`npm audit\``)
}

function filesWithEnvoy(): Record<string, string> {
  const names = ['docker-compose.yml', 'deploy/kubernetes/deployment.yaml']
  return Object.fromEntries(names.map((name) => [name, read(name)]))
}

/**
 * Made from the lock file of what is shipped, in a folder of its own: npm leaves out what a package for development needs
 * as well.
 */
function sbom(): Outcome {
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-release-'))
  try {
    const { devDependencies: _, ...shipped } = JSON.parse(read('package.json'))
    writeFileSync(join(folder, 'package.json'), JSON.stringify(shipped))
    writeFileSync(join(folder, 'package-lock.json'), JSON.stringify(shippedPart(lock())))
    const args = ['sbom', '--package-lock-only', '--sbom-format', 'cyclonedx', '--prefix', folder]
    const { status, stdout, stderr } = run('npm', args)
    if (status !== 0) return [`npm sbom failed: ${stderr.trim().split('\n')[0]}`]
    const document = JSON.parse(stdout)
    Object.assign(document.metadata.component, { name: shipped.name, version: shipped.version })
    writeFileSync(SBOM, `${JSON.stringify(document, null, 2)}\n`)
    return sbomFaults(document, Object.keys(shippedPart(lock()).packages))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Validates a sample, as a user would. What it leaves to be set, it is given here: without that it has a fault on purpose. */
function validate(file: string): Outcome {
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-sample-'))
  try {
    const text = readFileSync(file, 'utf8').replace(/set-[a-z-]+\.invalid/g, 'zones.example')
    writeFileSync(join(folder, basename(file)), text)
    const outcome = validateFile(join(folder, basename(file)))
    return Array.isArray(outcome)
      ? outcome.map((line) => line.replaceAll(`${folder}/`, `${dirname(file)}/`))
      : outcome
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** With an Envoy beside it where there is one. */
function validateFile(file: string): Outcome {
  const path = [process.env['PATH'], join(ROOT, '.tools', `envoy-${ENVOY_VERSION}`)].join(delimiter)
  const args = [join(ROOT, 'src/main.ts'), 'validate', file, '--json']
  const { stdout, stderr } = run(process.execPath, args, { PATH: path })
  const { ok, faults, notChecked } = parse(stdout) as {
    ok?: boolean
    faults?: Fault[]
    notChecked?: string[]
  }
  if (ok === undefined || faults === undefined) return ['`zonegate validate` failed:', ...lastLines(stderr)]
  if (!ok) return faults.map(faultText)
  return notChecked?.[0] === undefined ? [] : { notChecked: notChecked.join('; ') }
}

/** One of an earlier commit would prove nothing of this one. */
function image(): Outcome {
  const inspected = run('docker', ['image', 'inspect', '--format', '{{.Size}}', IMAGE])
  if (inspected.status === null) return { notChecked: 'there is no docker' }
  if (inspected.status !== 0)
    return { notChecked: `docker says ${lastLines(inspected.stderr)[0]}; CONTRIBUTING.md has how it is made` }
  const said = run('docker', ['run', '--rm', '--network=none', IMAGE, 'src/main.ts', 'version', '--json'])
  const { commit = 'no commit' } = parse(said.stdout) as { commit?: string }
  const head = run('git', ['rev-parse', 'HEAD']).stdout.trim()
  const octets = Number(inspected.stdout)
  return [
    ...(/^[0-9a-f]{7,}$/.test(commit) && head.startsWith(commit)
      ? []
      : [`it is of ${commit}, not of ${head.slice(0, 7)}: make it anew, as CONTRIBUTING.md has it`]),
    ...(octets <= IMAGE_OCTETS_MAX
      ? []
      : [`${octets} octets, more than ${IMAGE_OCTETS_MAX}: \`docker history ${IMAGE}\` has where they are`]),
  ]
}

function testPasses(file: string): Outcome {
  return succeeds(process.execPath, ['--disable-warning=ExperimentalWarning', '--test', file])
}

function succeeds(command: string, args: string[]): Outcome {
  const { status, stdout, stderr } = run(command, args)
  return status === 0 ? [] : [`${command} ${args.join(' ')} failed:`, ...lastLines(`${stdout}${stderr}`)]
}

function lastLines(text: string): string[] {
  return text.trim().split('\n').slice(-15)
}

/** @returns status null where there is no such program */
function run(command: string, args: string[], environment: NodeJS.ProcessEnv = {}) {
  const env = { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0', ...environment }
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', env })
  return { status, stdout: stdout ?? '', stderr: stderr ?? '' }
}

function parse(text: string): object {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}

function wrongUsage(message: string): number {
  console.error(`${message}\n\n${USAGE}`)
  return 2
}

function options() {
  return parseArgs({
    options: {
      strict: { type: 'boolean', default: false },
      only: { type: 'string', default: '' },
      help: { type: 'boolean', default: false },
    },
  }).values
}

try {
  const { strict, only, help } = options()
  if (help) console.log(USAGE)
  else process.exitCode = main(strict, only)
} catch (error) {
  if (!(error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')))
    throw error
  process.exitCode = wrongUsage(error.message)
}
