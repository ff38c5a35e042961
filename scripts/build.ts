// The packed program: src/ as JavaScript in dist/, because Node strips no types under node_modules. `npm pack` runs it
// (prepack); a checkout and the image need nothing of it.
import { spawnSync } from 'node:child_process'
import { cpSync, rmSync, writeFileSync } from 'node:fs'
import { extname } from 'node:path'
import { readBuild } from '../src/status/version.ts'

rmSync('dist', { recursive: true, force: true })
const { status } = spawnSync('node_modules/.bin/tsc', ['-p', 'tsconfig.build.json'], { stdio: 'inherit' })
if (status !== 0) process.exit(1)
// The page is served as it is: no build step.
cpSync('src/admin/page', 'dist/admin/page', { recursive: true, filter: (path) => extname(path) !== '.ts' })
writeFileSync('dist/COMMIT', `${readBuild().commit}\n`)
