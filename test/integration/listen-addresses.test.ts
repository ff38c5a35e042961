import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

for (const option of ['--listen', '--admin']) {
  for (const text of ['localhost:8101', '127.1:8101', '1.2.3.4%x:8101', '[::1%lo]:8101', '8101']) {
    test(`npm start ${option} ${text} is refused with what is expected, before anything starts`, () => {
      const args = ['--disable-warning=ExperimentalWarning', 'src/launch/start.ts', option, text]
      const { status, stderr } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' })
      const expected = 'expected address:port, like 127.0.0.1:8101 or [::1]:8101'
      assert.deepEqual([status, stderr], [1, `zonegate: ${option}: ${expected}, got "${text}"\n`])
    })
  }
}
