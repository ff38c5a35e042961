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
  sbomFaults,
  shippedPart,
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
    assert.deepEqual([...lockFaults(own), ...licenceFaults(own)], [])
  })

  const FAULTS: [title: string, entry: object, fault: RegExp][] = [
    ['a package without a hash', { integrity: undefined }, /node_modules\/a has no integrity/],
    ['a package of one registry', { resolved: 'https://registry.test/a.tgz' }, /names where it came from/],
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

describe('a changelog', () => {
  const log = (head: string, text: string): string =>
    `# Changelog\n\n## ${head}\n\n${text}\n\n## 0.0.9 - 2026-01-01\n`

  test('has the version with a date, and says what goes with it', () => {
    assert.deepEqual(changelogFaults(log('1.0.0 - 2026-12-01', 'Compatible: with all.'), '1.0.0'), [])
  })
  test('has a fault while the version is unreleased, undated, or says nothing of what goes with it', () => {
    assert.match(changelogFaults(log('Unreleased', 'Compatible: x'), '1.0.0').join(), /has no section/)
    assert.match(changelogFaults(log('1.0.0 ', 'Compatible: x'), '1.0.0').join(), /has no date/)
    assert.match(changelogFaults(log('1.0.0 - 2026-12-01', 'New.'), '1.0.0').join(), /no line "Compatible/)
    assert.match(changelogFaults(log('1.0.00 - 2026-12-01', ''), '1.0.0').join(), /has no section/)
  })
})

test('Envoy is one version everywhere', () => {
  const text = 'image: envoyproxy/envoy:v1.40.0\n'
  assert.deepEqual(envoyFaults({ a: text, b: text }, '1.40.0'), [])
  assert.match(envoyFaults({ a: text }, '1.41.0').join(), /a has Envoy 1.40.0/)
  assert.match(envoyFaults({ a: 'image: x' }, '1.40.0').join(), /names no version/)
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
