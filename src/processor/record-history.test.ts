import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HistoryRecorder } from './record-history.ts'

const recorded = (): { recorder: HistoryRecorder; kinds: string[] } => {
  const kinds: string[] = []
  const recorder = new HistoryRecorder(
    ({ kind }) => kinds.push(kind),
    () => 0,
    () => false,
  )
  return { recorder, kinds }
}
const zone = { service: 'default', id: '1' }

test('a new configuration comes before the zones that are forgotten because of it', () => {
  const { recorder, kinds } = recorded()
  recorder.holdUntilConfig()
  recorder.zone(zone, 'rekeyed', 'n1', false)
  assert.deepEqual(kinds, [])
  recorder.config('zonegate.yaml', { changes: [{ key: 'rules', before: 1, after: 2 }] })
  recorder.zone(zone, 'learned', 'n1', false)
  assert.deepEqual(kinds, ['config', 'forgotten', 'learned'])
})

test('a configuration that can not run loses no event', () => {
  const { recorder, kinds } = recorded()
  recorder.holdUntilConfig()
  recorder.zone(zone, 'idle', 'n1', false)
  recorder.config('zonegate.yaml', { faults: ['a fault'] })
  assert.deepEqual(kinds, ['config_refused', 'forgotten'])
})
