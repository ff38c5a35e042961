import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { ENVOY_VERSION } from '../../src/status/version.ts'

/** `npm run release:check` on a copy of what it reads, each time with one thing broken. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const COPIED = [
  ...['package.json', 'package-lock.json', '.npmrc', '.gitignore', 'docker-compose.yml'],
  ...['demo/zonegate.yaml', 'deploy/helm/zonegate', 'deploy/kubernetes', 'envoy'],
  ...['docker-bake.hcl', 'docs/kubernetes.md'],
]
const VERSION: string = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version
const CHANGELOG = `# Changelog\n\n## ${VERSION} - 2027-01-31\n\nCompatible: Envoy ${ENVOY_VERSION}.\n\n- New.\n`
let copy: string

beforeEach(() => {
  copy = mkdtempSync(join(tmpdir(), 'zonegate-release-check-'))
  for (const part of COPIED) cpSync(join(ROOT, part), join(copy, part), { recursive: true })
  writeFileSync(join(copy, 'CHANGELOG.md'), CHANGELOG)
  git('init', '--quiet')
  git('add', '.')
  const as = ['user.name=test', 'user.email=test@test.test', 'commit.gpgsign=false']
  git(...as.flatMap((setting) => ['-c', setting]), 'commit', '--quiet', '--message', 'x')
})
afterEach(() => rmSync(copy, { recursive: true, force: true }))

function git(...args: string[]): string {
  return execFileSync('git', ['-C', copy, ...args], { encoding: 'utf8' }).trim()
}

function edit(file: string, what: RegExp | string, by: string): void {
  const text = readFileSync(join(copy, file), 'utf8')
  writeFileSync(
    join(copy, file),
    text.replace(what, () => by),
  )
}

function check(only: string, ...more: string[]): { code: number | null; text: string } {
  const script = join(ROOT, 'scripts/release-check.ts')
  const env = { ...process.env, PATH: [join(copy, 'bin'), process.env['PATH']].join(delimiter) }
  const args = [script, '--only', only, ...more]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: copy, encoding: 'utf8', env })
  return { code: status, text: stdout + stderr }
}

/** Replaces a program that this machine may lack, or that needs the internet. */
function programInstead(name: string, script: string): void {
  mkdirSync(join(copy, 'bin'))
  writeFileSync(join(copy, 'bin', name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
}

function dockerWith(octets: number, commit: string): void {
  programInstead('docker', `case $1 in image) echo ${octets};; *) echo '{"commit":"${commit}"}';; esac`)
}

test('a copy without a fault passes, and has an SBOM', () => {
  for (const name of [
    'tree is',
    'CHANGELOG',
    'one version',
    'hash',
    'complete',
    'licences',
    'Envoy has',
    'are sound',
    'SBOM',
  ]) {
    const { code, text } = check(name)
    assert.deepEqual([name, code, /^FAULT.*/m.exec(text)?.[0]], [name, 0, undefined])
  }
  const { components } = JSON.parse(readFileSync(join(copy, 'sbom.cdx.json'), 'utf8'))
  const { dependencies } = JSON.parse(readFileSync(join(copy, 'package.json'), 'utf8'))
  const names = components.map(({ name }: { name: string }) => name)
  for (const name of Object.keys(dependencies)) assert.ok(names.includes(name), name)
  assert.ok(!names.includes('typescript'))
})

const FAULTS: [title: string, only: string, breaks: () => void, fault: RegExp][] = [
  [
    'a changed file',
    'tree is',
    () => edit('.npmrc', 'true', 'false'),
    /commit or remove these.*\n +M \.npmrc/,
  ],
  ['a new file', 'tree is', () => writeFileSync(join(copy, 'new'), ''), /\?\? new/],
  [
    'an unreleased section',
    'CHANGELOG',
    () => edit('CHANGELOG.md', /^## .*$/m, '## Unreleased'),
    /Unreleased/,
  ],
  ['no note of what it goes with', 'CHANGELOG', () => edit('CHANGELOG.md', 'Compatible:', ''), /Compatible/],
  [
    'a package without a hash',
    'hash',
    () => edit('package-lock.json', /"integrity": .*/, ''),
    /no integrity/,
  ],
  [
    'a package of one registry',
    'hash',
    () => edit('package-lock.json', '"integrity"', '"resolved": "https://registry.test/a.tgz",\n"integrity"'),
    /names a registry/,
  ],
  [
    'an install script',
    'hash',
    () => edit('package-lock.json', '"integrity"', '"hasInstallScript": true,\n"integrity"'),
    /has an install script: read it/,
  ],
  [
    'another version',
    'complete',
    () => edit('package.json', `"${VERSION}"`, '"9.9.9"'),
    /version differs from/,
  ],
  [
    'another version of the chart',
    'one version',
    () => edit('deploy/helm/zonegate/Chart.yaml', /^appVersion: .*$/m, 'appVersion: 9.9.9'),
    /Chart\.yaml has version 9\.9\.9, package\.json /,
  ],
  [
    'another version in the documents',
    'one version',
    () => edit('docs/kubernetes.md', /zonegate:[\d.]+/, 'zonegate:9.9.9'),
    /docs\/kubernetes\.md has version 9\.9\.9/,
  ],
  [
    'an optional package that npm has dropped',
    'complete',
    () => edit('package-lock.json', '"node_modules/@biomejs/cli-win32-x64"', '"node_modules/gone"'),
    /biome needs @biomejs\/cli-win32-x64, which the lock file lacks/,
  ],
  [
    'a licence that is not in the list',
    'licences',
    () => edit('package-lock.json', /(?<="node_modules\/pino": .*?"license": )"MIT"/s, '"AGPL-3.0"'),
    /node_modules\/pino has the licence AGPL-3.0/,
  ],
  [
    'another Envoy in one file',
    'Envoy has',
    () => edit('docker-compose.yml', /envoy:v[\d.]+/, 'envoy:v1.2.3'),
    /docker-compose\.yml has Envoy 1\.2\.3/,
  ],
  [
    'a sample with a wrong key',
    'are sound',
    () => edit('demo/zonegate.yaml', 'search:', 'serch:'),
    /demo\/zonegate\.yaml:\d+:\d+: .*serch/,
  ],
  [
    'an image that is too big',
    'image',
    () => dockerWith(900_000_000, git('rev-parse', '--short', 'HEAD')),
    /900000000 bytes, more than/,
  ],
  [
    'an image of another commit',
    'image',
    () => dockerWith(1, 'abc1234'),
    /it was built from abc1234, not from/,
  ],
]
for (const [title, only, breaks, fault] of FAULTS)
  test(`${title}: exit 1, and what to do`, () => {
    breaks()
    const { code, text } = check(only)
    assert.match(text, /^FAULT /m)
    assert.match(text, fault)
    assert.equal(code, 1)
  })

test('an image of this commit: ok', () => {
  dockerWith(1, git('rev-parse', '--short', 'HEAD'))
  assert.match(check('image').text, /^ok +the image/m)
})

test('a check that could not run is printed, and fails with --strict only', () => {
  programInstead('docker', 'echo no daemon here >&2; exit 1')
  const { code, text } = check('image')
  assert.match(text, /^not checked +the image.*: docker says no daemon here/m)
  assert.deepEqual([code, check('image', '--strict').code], [0, 1])
})

test('a registry without advisories: not checked, never ok', () => {
  const answer = '{"message":"405 Method Not Allowed - POST https://registry.test/","statusCode":405}'
  programInstead('npm', `echo '${answer}'; exit 1`)
  assert.match(check('vulnerability').text, /^not checked .*: npm audit says 405 Method Not Allowed$/m)
})

test('a known vulnerability: exit 1', () => {
  const answer = '{"metadata":{},"vulnerabilities":{"pino":{"severity":"high"}}}'
  programInstead('npm', `echo '${answer}'; exit 1`)
  const { code, text } = check('vulnerability')
  assert.match(text, /pino: high; see `npm audit`/)
  assert.equal(code, 1)
})

test('options that it does not have: exit 2; --help: exit 0, and nothing is done', () => {
  assert.equal(check('', '--nope').code, 2)
  assert.equal(check('no such check').code, 2)
  assert.deepEqual([check('', '--help').code, existsSync(join(copy, 'sbom.cdx.json'))], [0, false])
})
