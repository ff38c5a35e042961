import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { Turns } from './turns.ts'

describe('turns of the event loop', () => {
  let nowMs: number
  let due: (() => void)[]
  let turns: Turns
  let done: string[]

  beforeEach(() => {
    nowMs = 0
    due = []
    done = []
    turns = new Turns({
      now: () => nowMs,
      start: (callback) => {
        due.push(callback)
        return {
          cancel: () => {
            due = due.filter((other) => other !== callback)
          },
        }
      },
    })
  })

  /** Takes so long at each step. */
  const task = (name: string, ms: number, steps = 1): (() => boolean) => {
    let left = steps
    return () => {
      nowMs += ms
      done.push(name)
      left -= 1
      return left > 0
    }
  }
  const turn = (): string => {
    done = []
    const callbacks = due
    due = []
    for (const callback of callbacks) callback()
    return done.join('')
  }

  test('the first task starts at once', () => {
    turns.take(task('a', 1))
    assert.deepEqual(done, ['a'])
    assert.equal(turn(), '')
    assert.equal(due.length, 0)
  })

  test('a task that comes when the turn is used up waits for the next turn', () => {
    for (const name of ['a', 'b', 'c']) turns.take(task(name, 5))
    assert.deepEqual(done, ['a', 'b'])
    assert.equal(turn(), 'c')
  })

  test('a long task lets others in', () => {
    turns.take(task('a', 5, 4))
    turns.take(task('b', 5))
    assert.deepEqual(done, ['a'])
    assert.equal(turn(), 'ab')
    assert.equal(turn(), 'aa')
    assert.equal(turn(), '')
  })

  test('a task that already waits is not added again', () => {
    const one = task('a', 1, 1)
    turns.later(one)
    turns.later(one)
    turns.take(one)
    assert.deepEqual(done, [])
    assert.equal(turn(), 'a')
  })

  test('a dropped task does not run, nor does any task after close', () => {
    const one = task('a', 1)
    turns.later(one)
    turns.later(task('b', 1))
    turns.drop(one)
    assert.equal(turn(), 'b')
    turns.later(one)
    turns.close()
    assert.equal(turn(), '')
  })

  test('takes many items a few at a time, and tells the end or what was thrown', async () => {
    const items = Array.from({ length: 250 }, (_, index) => index)
    const seen: number[] = []
    const whole = turns.each(items, (item) => seen.push(item))
    assert.equal(seen.length, 0)
    turns.take(task('other', 1))
    for (let left = 3; due.length > 0 && left > 0; left--) {
      due.shift()?.()
      nowMs += 10
    }
    await whole
    assert.deepEqual(seen, items)
    assert.equal(done.includes('other'), true)
    const fault = new Error('fault')
    const broken = turns.each(items, () => {
      throw fault
    })
    due.shift()?.()
    await assert.rejects(broken, fault)
  })
})
