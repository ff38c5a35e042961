import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { HEAP_OPTIONS, MALLOC_ENV, THREAD_OPTIONS } from './instance.ts'

test('the image sets the same limits of V8 and malloc as npm start, and no others', () => {
  const dockerfile = readFileSync(new URL('../../Dockerfile', import.meta.url), 'utf8')
  assert.equal(/NODE_OPTIONS="([^"]*)"/.exec(dockerfile)?.[1], HEAP_OPTIONS.join(' '))
  assert.deepEqual(JSON.parse(/^ENTRYPOINT (.*)$/m.exec(dockerfile)?.[1] ?? ''), ['node', ...THREAD_OPTIONS])
  assert.equal(/MALLOC_ARENA_MAX=(\S+)/.exec(dockerfile)?.[1], MALLOC_ENV.MALLOC_ARENA_MAX)
})
