/** Whether what is checked out can be released: looks at everything, changes nothing but the SBOM. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ENVOY_VERSION } from '../src/status/version.ts'
import {
  changelogFaults,
  envoyFaults,
  licenceFaults,
  lockFaults,
  sbomFaults,
  shippedPart,
} from './release-rules.ts'

const USAGE = `npm run release:check [-- OPTIONS]

Looks whether what is checked out can be released: a clean tree, a dated section of CHANGELOG.md for the version, a lock file
with hashes and without install scripts, licences, known vulnerabilities, one version of Envoy everywhere, types and
lint, the package. Writes the list of all parts to sbom.cdx.json (CycloneDX). Runs no tests: npm test does.

  --strict   what could not be checked is a failure, too
  --help

Exits with 0, or with 1 when something is at fault.`

const SBOM = 'sbom.cdx.json'
const IMAGE_OCTETS_MAX = 350_000_000

/** Faults, or why it could not be checked. */
type Outcome = readonly string[] | { readonly notChecked: string }

const read = (path: string): string => readFileSync(path, 'utf8')
const lock = () => JSON.parse(read('package-lock.json'))
const manifest = (): { version: string; dependencies: Record<string, string> } =>
  JSON.parse(read('package.json'))

const CHECKS: readonly [what: string, check: () => Outcome][] = [
  ['the tree is clean', treeIsClean],
  ['CHANGELOG.md has the version', () => changelogFaults(read('CHANGELOG.md'), manifest().version)],
  [
    'package-lock.json has a hash for each package, no registry, no unknown install script',
    () => lockFaults(lock()),
  ],
  ['package-lock.json fits package.json', () => succeeds('npm', ['ci', '--dry-run', '--silent'])],
  ['licences of what is shipped', () => licenceFaults(lock())],
  ['no known vulnerability', vulnerabilities],
  ['Envoy has one version', () => envoyFaults(filesWithEnvoy(), ENVOY_VERSION)],
  ['types, lint, format', () => succeeds('npm', ['run', '--silent', 'check'])],
  [`SBOM, in ${SBOM}`, sbom],
  ['the package: contents, size, and that it runs', () => testPasses('test/integration/package.test.ts')],
  ['the image', image],
]

function main(strict: boolean): number {
  let faults = 0
  let unchecked = 0
  for (const [what, check] of CHECKS) {
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
  const left = `${faults} at fault, ${unchecked} not checked`
  const releasable = faults === 0 && !(strict && unchecked > 0)
  console.log(
    `\n${manifest().version} ${releasable ? 'can' : 'can NOT'} be released: ${left}. The tests: npm test`,
  )
  return releasable ? 0 : 1
}

function treeIsClean(): Outcome {
  const { status, stdout } = run('git', ['status', '--porcelain'])
  if (status !== 0) return { notChecked: 'this is no checkout of git' }
  return stdout.split('\n').filter((line) => line !== '')
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

function image(): Outcome {
  const format = '{{.Size}}'
  const { status, stdout } = run('docker', ['image', 'inspect', '--format', format, 'zonegate'])
  if (status !== 0) return { notChecked: 'there is none; `docker compose build` makes it' }
  const octets = Number(stdout)
  return octets > IMAGE_OCTETS_MAX ? [`${octets} octets, more than ${IMAGE_OCTETS_MAX}`] : []
}

function testPasses(file: string): Outcome {
  return succeeds(process.execPath, ['--disable-warning=ExperimentalWarning', '--test', file])
}

function succeeds(command: string, args: string[]): Outcome {
  const { status, stdout, stderr } = run(command, args)
  const said = `${stdout}${stderr}`.trim().split('\n').slice(-15)
  return status === 0 ? [] : [`${command} ${args.join(' ')} failed:`, ...said]
}

function run(command: string, args: string[]) {
  const env = { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' }
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

const { values } = parseArgs({
  options: { strict: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
})
if (values.help) console.log(USAGE)
else process.exitCode = main(values.strict)
