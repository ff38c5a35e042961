import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { COLD_REASONS, type ColdReason } from '../status/cold-reasons.ts'
import type { ZoneState } from '../status/status.ts'
import type { EnvoyWithZone } from '../xds/envoy-stream.ts'
import { type ColdReasonParts, coldReasonOf, envoysWith, OtherKeys } from './cold-reason.ts'

const zone = { service: 'default', id: '7' }
const POLICY = { reasons: [], faults: [], needsRestart: [] }

interface Given {
  readonly active?: boolean
  readonly reasons?: string[]
  readonly pin?: string
  readonly envoys?: EnvoyWithZone[]
  readonly why?: ReturnType<ColdReasonParts['zones']['whyNot']>
  readonly state?: ZoneState
  readonly otherKeysMsAgo?: number
}

function partsOf({
  active = true,
  reasons = [],
  pin,
  envoys,
  why = null,
  otherKeysMsAgo,
}: Given): ColdReasonParts {
  let nowMs = 0
  const otherKeys = new OtherKeys(() => nowMs)
  if (otherKeysMsAgo !== undefined) otherKeys.seen()
  nowMs = otherKeysMsAgo ?? 0
  return {
    control: {
      active,
      policy: () => ({ ...POLICY, reasons }),
      pinOf: () => pin,
      zoneOnEnvoys: () => envoys ?? [{ envoy: 'e', state: 'held' }],
    },
    zones: { whyNot: () => why },
    otherKeys,
  }
}

const pending: EnvoyWithZone = { envoy: 'e', state: 'pending' }
const refused: EnvoyWithZone = { envoy: 'e', state: 'refused', rejection: 'no' }

/** Each with what it comes before: the reason that has to go first. */
const CASES: Record<Exclude<ColdReason, 'spelling'>, Given[]> = {
  learning_off: [{ why: 'learning_off', active: false }],
  envoy_files: [{ active: false, reasons: ['a line'], pin: 'p' }],
  pinned: [{ pin: 'p', state: 'uncached' }],
  ttl_zero: [{ state: 'uncached', why: 'not_asked' }],
  keys_changed: [{ why: 'not_asked', otherKeysMsAgo: 59_999 }],
  not_asked: [{ why: 'not_asked' }, { why: 'not_asked', otherKeysMsAgo: 60_000 }],
  asked_once: [{ why: 'asked_once', otherKeysMsAgo: 0 }],
  zones_max: [{ why: 'zones_max', otherKeysMsAgo: 0 }],
  no_envoy: [{ envoys: [] }],
  refused_by_envoy: [{ envoys: [{ envoy: 'a', state: 'held' }, refused] }],
  being_pushed: [{ envoys: [pending] }],
}
for (const [reason, all] of Object.entries(CASES))
  for (const given of all)
    test(`${reason}: ${JSON.stringify(given)}`, () => {
      assert.equal(coldReasonOf(zone, given.state ?? 'fresh', partsOf(given)), reason)
    })

test('a zone that an Envoy routes has no reason', () => {
  assert.equal(
    coldReasonOf(zone, 'fresh', partsOf({ envoys: [{ envoy: 'a', state: 'held' }, pending] })),
    null,
  )
})

test('each Envoy has its own reason and its own detail', () => {
  const envoys: EnvoyWithZone[] = [{ envoy: 'a', state: 'held' }, pending, refused]
  assert.deepEqual(envoysWith(zone, 'fresh', true, partsOf({ envoys })), [
    { envoy: 'a', route: 'hot' },
    { envoy: 'e', route: 'cold', reason: 'being_pushed' },
    { envoy: 'e', route: 'cold', reason: 'refused_by_envoy', detail: 'no' },
  ])
  const held: Given = { active: false, reasons: ['routes.yaml:1:1: x'] }
  assert.deepEqual(envoysWith(zone, 'fresh', true, partsOf(held)), [
    { envoy: 'e', route: 'cold', reason: 'envoy_files', detail: 'routes.yaml:1:1: x' },
  ])
})

test('a request that Envoy can not read is cold on each Envoy; "spelling" is the reason if the zone is learned', () => {
  assert.deepEqual(envoysWith(zone, 'fresh', false, partsOf({})), [
    { envoy: 'e', route: 'cold', reason: 'spelling' },
  ])
  assert.deepEqual(envoysWith(zone, 'fresh', false, partsOf({ why: 'asked_once' })), [
    { envoy: 'e', route: 'cold', reason: 'asked_once' },
  ])
})

test('each reason says what holds the zone, and what to do', () => {
  assert.deepEqual(Object.keys(COLD_REASONS).sort(), [...Object.keys(CASES), 'spelling'].sort())
  for (const { cause, wayOut } of Object.values(COLD_REASONS)) {
    assert.match(cause, /^\S.*\.$/)
    assert.match(wayOut, /^[A-Z].*\.$/)
  }
})

test('docs/troubleshooting.md has each reason', () => {
  const text = readFileSync(new URL('../../docs/troubleshooting.md', import.meta.url), 'utf8')
  const [, section = ''] = /## A zone stays cold\n(.*?)\n## /s.exec(text) ?? []
  const named = [...section.matchAll(/^\| `(\w+)` /gm)].map(([, reason]) => reason)
  assert.deepEqual(named.sort(), Object.keys(COLD_REASONS).sort())
})
