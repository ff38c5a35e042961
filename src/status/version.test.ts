import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ENVOY_VERSION, isTestedEnvoy } from './version.ts'

const OTHERS = ['1.39.9', '1.41.0', '1.4.0', '2.40.0', '1', '', 'abcd1234']

test("the tested Envoy is the one of this release, and that one's security releases", () => {
  const [major, minor] = ENVOY_VERSION.split('.')
  for (const version of [ENVOY_VERSION, `${major}.${minor}.17`]) assert.ok(isTestedEnvoy(version), version)
  for (const version of OTHERS) assert.ok(!isTestedEnvoy(version), version)
})
