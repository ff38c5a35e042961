import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import {
  changelogFaults,
  envoyFaults,
  type LockFile,
  licenceFaults,
  lockFaults,
  lockStepFaults,
  type Manifest,
  sbomFaults,
  shippedPart,
  versionFaults,
} from '../../scripts/release-rules.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const own: LockFile = JSON.parse(readFileSync(`${root}/package-lock.json`, 'utf8'))

const locked = (entry: object): LockFile => ({
  packages: {
    '': {},
    'node_modules/a': { version: '1.0.0', integrity: 'sha512-x', license: 'MIT', ...entry },
  },
})

describe('a lock file', () => {
  test("this project's has no fault", () => {
    const manifest: Manifest = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'))
    assert.deepEqual([...lockFaults(own), ...lockStepFaults(own, manifest), ...licenceFaults(own)], [])
  })

  const FAULTS: [title: string, entry: object, fault: RegExp][] = [
    ['a package without a hash', { integrity: undefined }, /node_modules\/a has no integrity/],
    ['a package of one registry', { resolved: 'https://registry.test/a.tgz' }, /names a registry/],
    ['a package with an install script', { hasInstallScript: true }, /has an install script/],
  ]
  for (const [title, entry, fault] of FAULTS)
    test(`${title} is a fault`, () => {
      assert.match(lockFaults(locked(entry)).join('\n'), fault)
    })

  test('a licence that is not in the list is a fault, but not of what is not shipped', () => {
    assert.match(licenceFaults(locked({ license: 'AGPL-3.0' })).join(), /has the licence AGPL-3.0/)
    assert.match(licenceFaults(locked({ license: undefined })).join(), /has the licence \(none\)/)
    assert.deepEqual(licenceFaults(locked({ license: 'AGPL-3.0', dev: true })), [])
  })
})

describe('a lock file and package.json', () => {
  const manifest: Manifest = { version: '1.0.0', dependencies: { a: '^1.0.0' } }
  const lock = (others: LockFile['packages'] = {}): LockFile => ({
    packages: { '': manifest, 'node_modules/a': { version: '1.0.0', dependencies: { b: '2' } }, ...others },
  })

  test('fit where a package is beside what needs it, or above', () => {
    assert.deepEqual(lockStepFaults(lock({ 'node_modules/b': {} }), manifest), [])
    assert.deepEqual(lockStepFaults(lock({ 'node_modules/a/node_modules/b': {} }), manifest), [])
  })
  test('do not fit where a package is missing, even an optional one', () => {
    const missing = ['node_modules/a needs b, which the lock file lacks: put its entry back']
    assert.deepEqual(lockStepFaults(lock(), manifest), missing)
    assert.deepEqual(lockStepFaults(lock({ 'node_modules/c/node_modules/b': {} }), manifest), missing)
    const optional = { 'node_modules/b': { optionalDependencies: { '@c/d': '3' } } }
    assert.match(lockStepFaults(lock(optional), manifest).join(), /^node_modules\/b needs @c\/d/)
  })
  test('do not fit where version or dependencies differ', () => {
    const all = lock({ 'node_modules/b': {} })
    assert.match(lockStepFaults(all, { ...manifest, version: '1.0.1' }).join(), /^version differs from/)
    assert.match(lockStepFaults(all, { ...manifest, dependencies: {} }).join(), /^dependencies differs/)
  })
})

describe('a changelog', () => {
  const log = (head: string, text: string): string =>
    `# Changelog\n\n## ${head}\n\n${text}\n\n## 0.0.9 - 2026-01-01\n`
  const text = 'Compatible: with files of 0.9,\nand Envoy 1.40.\n\n- New.'
  const faults = (changelog: string): string => changelogFaults(changelog, '1.0.0', '1.40.0').join('\n')

  test('has the version with a date, what is new, and what it goes with', () => {
    assert.equal(faults(log('1.0.0 - 2026-12-01', text)), '')
  })

  const FAULTS: [title: string, changelog: string, fault: RegExp][] = [
    ['is unreleased', log('Unreleased', text), /^the first section is "## Unreleased"/],
    ['was released before', log('1.1.0 - 2026-12-01', text), /^the first section is "## 1.1.0 - /],
    ['is another one that starts the same', log('1.0.00 - 2026-12-01', text), /^the first section is/],
    ['has no section at all', '# Changelog\n', /^the first section is "## "/],
    ['has no date', log('1.0.0', text), /^"## 1.0.0" has no date/],
    ['has nothing new', log('1.0.0 - 2026-12-01', 'Compatible: Envoy 1.40.'), /lists no change/],
    ['does not say what it goes with', log('1.0.0 - 2026-12-01', '- New.'), /no line "Compatible/],
    [
      'goes with another Envoy',
      log('1.0.0 - 2026-12-01', 'Compatible: Envoy 1.39.\n\n- Envoy 1.40'),
      /does not name Envoy 1\.40/,
    ],
  ]
  for (const [title, changelog, fault] of FAULTS)
    test(`is at fault where the version ${title}`, () => assert.match(faults(changelog), fault))
})

test('Envoy is one version everywhere', () => {
  const text = 'image: envoyproxy/envoy:v1.40.0\n'
  assert.deepEqual(envoyFaults({ a: text, b: text }, '1.40.0'), [])
  assert.match(envoyFaults({ a: text }, '1.41.0').join(), /a has Envoy 1.40.0/)
  assert.match(envoyFaults({ a: 'image: x' }, '1.40.0').join(), /names no version/)
})

test('a file without the version where it should be is a fault', () => {
  const files = {
    'package-lock.json': '{\n  "version": "1.0.0"\n}',
    'docker-bake.hcl': 'variable "VERSION" { }',
  }
  const faults = versionFaults(files, '1.0.0').join('\n')
  assert.match(faults, /^docker-bake\.hcl has no version where/m)
  assert.doesNotMatch(faults, /package-lock/)
})

test('an SBOM has every dependency', () => {
  const components = [{ name: 'pino' }, { name: 'grpc-js', purl: 'pkg:npm/%40grpc/grpc-js@1.0.0' }]
  const paths = ['', 'node_modules/pino', 'node_modules/a/node_modules/@grpc/grpc-js']
  assert.deepEqual(sbomFaults({ components }, paths), [])
  assert.deepEqual(sbomFaults({ components }, ['node_modules/yaml']), ['the SBOM does not have yaml'])
  const { packages } = shippedPart(own)
  assert.ok(packages['node_modules/@grpc/grpc-js'])
  assert.equal(packages['node_modules/typescript'], undefined)
})
