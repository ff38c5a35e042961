import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseOptions } from './options.ts'

const systems = ['envoy-bare', 'seed']

test('without options every system runs over 1 and 100 zones', () => {
  const { zones, workers, systems: chosen } = parseOptions([], systems)
  assert.deepEqual({ zones, workers, chosen }, { zones: [1, 100], workers: [1], chosen: undefined })
})

test('lists are separated by commas', () => {
  const { zones, systems: chosen } = parseOptions(['--zones', '1,2000', '--systems', 'seed'], systems)
  assert.deepEqual({ zones, chosen }, { zones: [1, 2000], chosen: ['seed'] })
})

test('a comparison has fewer rounds unless --rounds says otherwise', () => {
  assert.equal(parseOptions(['--compare'], systems).rounds, 3)
  assert.equal(parseOptions(['--compare', '--rounds', '9'], systems).rounds, 9)
})

for (const { args, fault } of [
  { args: ['--zones', '1,x'], fault: /--zones: "x" is not a whole number from 1 to 10000/ },
  { args: ['--rounds', '0'], fault: /--rounds: "0"/ },
  { args: ['--systems', 'seed,apache'], fault: /--systems: "apache" is not one of envoy-bare, seed/ },
  { args: ['--scale', 'all'], fault: /--scale: "all" is not a whole number from 1 to 99990/ },
  { args: ['--speed'], fault: /--speed/ },
]) {
  test(`"${args.join(' ')}" is refused by name`, () => {
    assert.throws(() => parseOptions(args, systems), fault)
  })
}
