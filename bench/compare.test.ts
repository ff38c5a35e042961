import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { type Comparison, comparePaths, render } from './compare.ts'

const template = readFileSync(comparePaths.template, 'utf8')
const committed = JSON.parse(readFileSync(comparePaths.figures, 'utf8')) as Comparison

test('docs/compare.md is the template filled with the figures of bench/compare.json', () => {
  assert.equal(readFileSync(comparePaths.page, 'utf8'), render(template, committed))
})

test('a placeholder that means nothing is an error', () => {
  assert.throws(() => render('{{latency of love}}', committed), /\{\{latency of love\}\} .* has no value/)
})

test('a system that was not measured has a dash in the table, and says so in the text', () => {
  const speed = committed.speed.map(({ zones, systems }) => ({
    zones,
    systems: zones === 1 ? systems.filter(({ system }) => system !== 'haproxy') : systems,
  }))
  const text = render('{{speed}}\n{{cpu haproxy 1}}', { ...committed, speed })
  assert.match(text, /^\| HAProxy, do-resolve \| – \|/m)
  assert.match(text, /not measured$/)
})

test('a share below 1 never reads as 100 %', () => {
  const [first] = committed.faults
  assert.ok(first)
  const faults = [{ ...first, outage: 0.99996 }]
  assert.match(render('{{faults}}', { ...committed, faults }), />99\.9 %/)
})
