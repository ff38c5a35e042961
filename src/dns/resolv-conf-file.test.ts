import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { nodeTimers } from '../timers.ts'
import { ResolvConfFile } from './resolv-conf-file.ts'

async function until(condition: () => boolean): Promise<void> {
  for (let left = 1000; !condition(); left--) {
    assert.ok(left > 0, `not in time: ${condition}`)
    await new Promise((done) => setTimeout(done, 5))
  }
}

test('a slow reading that ends after a later one changes nothing', async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-resolv-'))
  context.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'resolv.conf')
  writeFileSync(path, 'nameserver 10.0.0.1\n')
  const seams = {
    timers: nodeTimers(() => performance.now(), assert.fail),
    environment: {},
    onEvent: () => {},
  }
  const file = new ResolvConfFile(path, seams)
  context.after(() => file.close())

  const readings: ((text: string) => void)[] = []
  context.mock.method(promises, 'readFile', () => new Promise((resolve) => readings.push(resolve)))
  syncBuiltinESMExports()
  context.after(() => {
    context.mock.restoreAll()
    syncBuiltinESMExports()
  })
  file.watch(() => {})
  writeFileSync(path, 'nameserver 10.0.0.33\n')
  await until(() => readings.length === 2)
  readings[1]?.('nameserver 10.0.0.33\n')
  await until(() => file.current.nameservers[0] === '10.0.0.33')
  readings[0]?.('nameserver 10.0.0.2\n')
  await new Promise((done) => setImmediate(done))
  assert.deepEqual(file.current.nameservers, ['10.0.0.33'])
})
