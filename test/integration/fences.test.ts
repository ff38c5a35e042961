import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { runAttack } from '../mutants/attack-run.ts'
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

/** What a run tells from what a test does: only an assertion of its own shows that an attack came through. */
const RUNS: [what: string, text: string, kind: string, why: RegExp][] = [
  ['passes', "test('it', () => undefined)", 'held', /^$/],
  ['has no such title', "test('another', () => undefined)", 'broke', /no test has such a title/],
  ['is left out', "test('it', { skip: true }, () => undefined)", 'broke', /no test has such a title/],
  ['fails by an assertion', "test('it', () => assert.equal(1, 2))", 'through', /1 !== 2/],
  ['throws', "test('it', () => { throw new Error('no answer') })", 'broke', /no answer/],
  [
    'fails by an assertion, and another throws',
    "test('it', () => assert.equal(1, 2)); test('it too', () => { throw new Error('no answer') })",
    'broke',
    /no answer/,
  ],
  [
    'can not begin',
    "suite('a', () => { before(() => assert.fail('no Envoy')); test('it', () => undefined) })",
    'broke',
    /no Envoy/,
  ],
  ['is no program', 'test(', 'broke', /./],
  ['hangs', "test('it', () => new Promise((done) => setTimeout(done, 60_000)))", 'broke', /no end within/],
]
suite('an attack', () => {
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-attack-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  for (const [what, text, kind, why] of RUNS)
    test(`whose test ${what}: ${kind}`, async () => {
      const head =
        "import assert from 'node:assert/strict'\nimport { before, suite, test } from 'node:test'\n"
      writeFileSync(join(folder, 'it.test.mjs'), head + text)
      const withinMs = what === 'hangs' ? 1500 : 60_000
      const outcome = await runAttack({ cwd: folder, test: 'it.test.mjs', titles: /^it/, withinMs }).outcome
      assert.equal(outcome.kind, kind)
      assert.match(outcome.kind === 'held' ? '' : outcome.why.join('\n'), why)
    })
})
