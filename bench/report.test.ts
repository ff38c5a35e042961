import assert from 'node:assert/strict'
import { test } from 'node:test'
import { median, renderRatios, renderTable, summarise } from './report.ts'
import type { Figures, Turn } from './turn.ts'

function turn(system: string, round: number, requestsPerSecond: number, cpuMicrosPerRequest: number): Turn {
  const processes = { proxy: { cpuMicrosPerRequest, memoryBytes: 3 * 2 ** 20 } }
  const figures: Figures = {
    requestsPerSecond,
    cpuMicrosPerRequest,
    p50Micros: 1500,
    p99Micros: 2500,
    coresUsedByOthers: 0.05,
    processes,
  }
  return { system, round, zones: 1, workers: 1, result: figures }
}

test('the median of an even number of values lies between the two in the middle', () => {
  assert.equal(median([9, 1, 5]), 5)
  assert.equal(median([9, 1, 5, 7]), 6)
  assert.equal(median([4]), 4)
})

test('a ratio compares within a round, so a machine that slows down does not change it', () => {
  const turns = [
    turn('envoy-bare', 0, 20_000, 40),
    turn('zonegate', 0, 18_000, 44),
    turn('envoy-bare', 1, 10_000, 80),
    turn('zonegate', 1, 9_000, 88),
  ]
  const [, row] = summarise(turns, ['envoy-bare', 'zonegate'])
  assert.ok(Math.abs((row?.against.bare?.requestsPerSecond.median ?? 0) - 0.9) < 1e-9)
  assert.ok(Math.abs((row?.against.bare?.cpuMicrosPerRequest.median ?? 0) - 1.1) < 1e-9)
  assert.equal(row?.requestsPerSecond, 13_500)
  assert.deepEqual(row?.range, [9_000, 18_000])
})

test('a void turn counts for nothing, and a system with no other has no row', () => {
  const voided: Turn = {
    system: 'caddy',
    round: 0,
    zones: 1,
    workers: 1,
    result: { void: '3 answers were not 2xx' },
  }
  const half: Turn = { ...voided, system: 'seed' }
  const rows = summarise([voided, half, turn('seed', 1, 100, 50)], ['seed', 'caddy'])
  assert.deepEqual(
    rows.map((row) => [row.system, row.turns]),
    [['seed', 1]],
  )
})

test('without a yardstick its columns stay empty', () => {
  const table = renderTable(
    summarise([turn('seed', 0, 12_345, 50)], ['seed']),
    new Map([['seed', 'the seed']]),
  )
  const [, line] = table.split('\n')
  assert.match(
    line ?? '',
    /^the seed +12,345 +12,345-12,345 +- +- +- +1\.00 +50\.0 +- +- +- +1\.00 +1\.50 +2\.50 +3 +5 %$/,
  )
})

test('ratios show how far apart the rounds were, and leave out yardsticks that did not run', () => {
  const rates = [15_000, 16_000, 17_000, 18_000]
  const turns = rates.flatMap((rate, round) => [
    turn('envoy-static', round, 20_000, 50),
    turn('zonegate', round, rate, 50),
  ])
  const [, row] = summarise(turns, ['envoy-static', 'zonegate'])
  assert.ok(row)
  assert.equal(
    renderRatios(row, new Map([['envoy-static', 'by hand']])),
    'zonegate ÷ by hand: throughput 0.82 (middle half of the rounds 0.78-0.88), CPU 1.00 (middle half of the rounds 1.00-1.00)',
  )
})
