import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { parseStat, usageOf } from './machine.ts'

test('the cost of a process includes the children it waited for', () => {
  const line = `4242 (nginx) S 1 4242 4240 0 -1 4194560 1 2 3 4 100 20 7 5 20 0 1 0 99 0 0`
  assert.deepEqual(parseStat(line), { session: 4240, ticks: 132 })
})

test('a name with blanks and parentheses moves no field', () => {
  const line = `4242 (a) b (c) S 1 4242 4240 0 -1 4194560 1 2 3 4 100 20 0 0 20 0 1 0 99 0 0`
  assert.deepEqual(parseStat(line), { session: 4240, ticks: 120 })
})

test('short-lived children of a session count, other sessions do not', {
  skip: process.platform !== 'linux',
}, async () => {
  // Each subshell burns CPU and is gone before the figures are read.
  const work =
    'for i in 1 2 3; do (i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done); done; echo done; read line'
  const busy = spawn('sh', ['-c', work], { detached: true, stdio: ['pipe', 'pipe', 'ignore'] })
  const idle = spawn('sh', ['-c', 'read line'], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
  const [busyPid, idlePid] = [busy.pid as number, idle.pid as number]
  try {
    await once(busy.stdout, 'data')
    const usage = usageOf([busyPid, idlePid])
    assert.ok((usage.get(busyPid)?.cpuMicros ?? 0) >= 20_000)
    assert.ok((usage.get(idlePid)?.cpuMicros ?? 0) < 20_000)
    assert.ok((usage.get(idlePid)?.memoryBytes ?? 0) > 0)
  } finally {
    const gone = [once(busy, 'exit'), once(idle, 'exit')]
    busy.stdin.end('\n')
    idle.stdin.end('\n')
    await Promise.all(gone)
  }
})
