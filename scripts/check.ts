import { spawnSync } from 'node:child_process'

/** Checks types, then lint, format and import directions (all three in biome.json). */
const CHECKS = [
  ['types', 'node_modules/.bin/tsc', []],
  ['lint, format, import directions', 'node_modules/.bin/biome', ['ci', '--error-on-warnings', '.']],
] as const

let failed = 0
for (const [name, command, args] of CHECKS) {
  process.stderr.write(`zonegate: checking ${name}\n`)
  if (spawnSync(command, args, { stdio: 'inherit' }).status !== 0) failed += 1
}
process.exit(failed === 0 ? 0 : 1)
