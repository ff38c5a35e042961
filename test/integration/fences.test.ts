import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { FENCES } from '../mutants/fence-list.ts'

const path = (file: string): string => fileURLToPath(new URL(`../../${file}`, import.meta.url))

/** `npm run fences` takes each fence down; here it is seen that it still could. */
for (const { attack, file, text, without, test: attacker, titles } of FENCES)
  test(`the fence against ${attack} stands where it is taken down, and a test attacks it`, () => {
    const parts = readFileSync(path(file), 'utf8').split(text)
    assert.equal(parts.length, 2, `in ${file}, once: ${text}`)
    assert.notEqual(text, without)
    assert.ok(existsSync(path(attacker)), attacker)
    assert.match(readFileSync(path(attacker), 'utf8'), titles)
  })
