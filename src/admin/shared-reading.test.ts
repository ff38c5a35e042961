import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sharedReading } from './shared-reading.ts'

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

test('one reading runs at a time; who asks meanwhile shares the next one, also after a failure', async () => {
  const readings: { resolve(result: string): void; reject(error: Error): void }[] = []
  const read = sharedReading(
    () => new Promise<string>((resolve, reject) => readings.push({ resolve, reject })),
  )
  const first = read()
  await settle()
  const [second, third] = [read(), read()]
  await settle()
  assert.equal(readings.length, 1)
  readings[0]?.reject(new Error('fault'))
  await assert.rejects(first, /fault/)
  await settle()
  assert.equal(readings.length, 2)
  const fourth = read()
  readings[1]?.resolve('b')
  assert.deepEqual([await second, await third], ['b', 'b'])
  await settle()
  readings[2]?.resolve('c')
  assert.equal(await fourth, 'c')
})
