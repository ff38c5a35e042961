import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { HEAP_OPTIONS } from './instance.ts'

test('the image gives V8 the bounds that npm start gives it, and nothing else', () => {
  const dockerfile = readFileSync(new URL('../../Dockerfile', import.meta.url), 'utf8')
  assert.equal(/NODE_OPTIONS="([^"]*)"/.exec(dockerfile)?.[1], HEAP_OPTIONS.join(' '))
})
