/** Checks whether the files of this checkout can be released. It writes only the SBOM. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type Fault, faultText } from '../src/config/faults.ts'
import { ENVOY_VERSION } from '../src/status/version.ts'
import { noHelm, noValidator } from '../test/support/kubernetes.ts'
import {
  changelogFaults,
  envoyFaults,
  FILES_WITH_VERSION,
  licenceFaults,
  lockFaults,
  lockStepFaults,
  type Manifest,
  sbomFaults,
  shippedPart,
  versionFaults,
} from './release-rules.ts'
import { makeSbom } from './sbom.ts'

const USAGE = `npm run release:check [-- OPTIONS]

Checks whether the files of this checkout can be released: a clean tree, a dated section of CHANGELOG.md for the version,
one version everywhere, a lock file with hashes and without install scripts, licences, known vulnerabilities, one version of
Envoy everywhere, types and lint, generated files, sample configurations, the package, the Helm chart, the image. It writes
the list of all parts to sbom.cdx.json (CycloneDX). It takes a minute or two and runs no other tests: npm test does.

  --strict      a check that could not run counts as a failure
  --only TEXT   runs only the checks with TEXT in their name
  --help

Exit codes: 0 no fault, 1 faults, 2 unknown options.`

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const SBOM = 'sbom.cdx.json'
/** Node's base image is about 230 MB of it. */
const IMAGE_BYTES_MAX = 350_000_000
const IMAGE = 'zonegate'
const SAMPLES = ['demo/zonegate.yaml', 'deploy/kubernetes/zonegate.yaml']

/** Faults, or the reason why the check could not run. */
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
    'one version everywhere',
    () =>
      versionFaults(
        Object.fromEntries(FILES_WITH_VERSION.map((name) => [name, read(name)])),
        manifest().version,
      ),
  ],
  [
    'package-lock.json has a hash for each package, no registry, no unknown install script',
    () => lockFaults(lock()),
  ],
  ['package-lock.json is complete, and agrees with package.json', () => lockStepFaults(lock(), manifest())],
  ['npm can install from package-lock.json', () => succeeds('npm', ['ci', '--dry-run', '--loglevel=error'])],
  ['licences of what is shipped', () => licenceFaults(lock())],
  ['no known vulnerability', vulnerabilities],
  ['Envoy has one version', () => envoyFaults(filesWithEnvoy(), ENVOY_VERSION)],
  ['types, lint, format', () => succeeds('npm', ['run', '--silent', 'check'])],
  ['generated files are current', () => testPasses('src/config/json-schema.test.ts')],
  ...SAMPLES.map((file): Check => [`${file} and envoy/ are sound`, () => validate(file)]),
  [`SBOM, in ${SBOM}`, sbom],
  ['the package: contents, size, and that it runs', () => testPasses('test/integration/package.test.ts')],
  ['the Helm chart: lint, schemas, and the objects of the kustomization', chart],
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
  if (status !== 0) return { notChecked: 'this is not a git checkout' }
  const changed = stdout.split('\n').filter((line) => line !== '')
  return changed.length === 0 ? [] : ['commit or remove these:', ...changed]
}

/** Asks the registry for advisories. A registry without advisories proves nothing, so that is not a success. */
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
  const names = [
    'docker-compose.yml',
    'deploy/kubernetes/deployment.yaml',
    'deploy/helm/zonegate/values.yaml',
  ]
  return Object.fromEntries(names.map((name) => [name, read(name)]))
}

function sbom(): Outcome {
  try {
    const document = makeSbom(new Date())
    writeFileSync(SBOM, `${JSON.stringify(document, null, 2)}\n`)
    return sbomFaults(document, Object.keys(shippedPart(lock()).packages))
  } catch (error) {
    return [(error as Error).message]
  }
}

function chart(): Outcome {
  const missing = noHelm() || noValidator()
  return missing ? { notChecked: missing } : testPasses('test/integration/helm.test.ts')
}

/** Validates a sample as a user would. A placeholder in it is a fault on purpose, so it gets a value first. */
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

/** Envoy validates the file too, where there is one. */
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

/** The image must be built from this commit: one of an earlier commit proves nothing. */
function image(): Outcome {
  const inspected = run('docker', ['image', 'inspect', '--format', '{{.Size}}', IMAGE])
  if (inspected.status === null) return { notChecked: 'docker is not installed' }
  if (inspected.status !== 0)
    return {
      notChecked: `docker says ${lastLines(inspected.stderr)[0]}; CONTRIBUTING.md says how to build it`,
    }
  const said = run('docker', ['run', '--rm', '--network=none', IMAGE, 'src/main.ts', 'version', '--json'])
  const { commit = 'no commit' } = parse(said.stdout) as { commit?: string }
  const head = run('git', ['rev-parse', 'HEAD']).stdout.trim()
  const bytes = Number(inspected.stdout)
  return [
    ...(/^[0-9a-f]{7,}$/.test(commit) && head.startsWith(commit)
      ? []
      : [
          `it was built from ${commit}, not from ${head.slice(0, 7)}: build it again as CONTRIBUTING.md says`,
        ]),
    ...(bytes <= IMAGE_BYTES_MAX
      ? []
      : [`${bytes} bytes, more than ${IMAGE_BYTES_MAX}: see \`docker history ${IMAGE}\``]),
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

/** @returns status null if the program is not installed */
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
