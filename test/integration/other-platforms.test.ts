import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

/** What `npm start` and `npm run demo` print on a machine that is not this one. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))

function runOn(platform: string, file: string): { code: number | null; stdout: string; stderr: string } {
  const pretend = `data:text/javascript,Object.defineProperty(process,'platform',{value:'${platform}'})`
  const args = ['--import', pretend, 'scripts/with-node.mjs', file, '--help']
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' })
  return { code: status, stdout, stderr }
}

for (const platform of ['darwin', 'win32']) {
  test(`npm start on ${platform}: the word is Docker`, () => {
    const { code, stdout, stderr } = runOn(platform, 'src/launch/start.ts')
    assert.equal(
      stderr,
      `zonegate: this runs on Linux only, not on ${platform}. Use Docker instead: docker compose up --build\n`,
    )
    assert.deepEqual([code, stdout], [1, ''])
  })
  test(`npm run demo on ${platform}: the word is Docker, with the demo's zones`, () => {
    const { code, stderr } = runOn(platform, 'demo/demo.ts')
    assert.match(stderr, /ZONEGATE_CONFIG_DIR=\.\/demo docker compose --profile demo up --build\n$/)
    assert.equal(code, 1)
  })
}

test('npm start on Linux is not held up', () => {
  const { code, stdout } = runOn('linux', 'src/launch/start.ts')
  assert.match(stdout, /usage: npm start/)
  assert.equal(code, 0)
})
