// Compiles src/ to JavaScript in dist/ for the package, because Node strips no types under node_modules. `npm pack` runs this
// script (prepack). A checkout and the image run the TypeScript directly.
import { spawnSync } from 'node:child_process'
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { extname } from 'node:path'
import { readBuild } from '../src/status/version.ts'

rmSync('dist', { recursive: true, force: true })
compile('tsconfig.build.json')
// `zonegate/dns` ships the types of its entry file, and of the two files whose types the entry exports.
compile('tsconfig.types.json')
for (const name of ['index', 'answer', 'events']) {
  const types = readFileSync(`dist/types/dns/${name}.d.ts`, 'utf8')
  writeFileSync(`dist/dns/${name}.d.ts`, types.replaceAll(/(from '\.\/\w+)\.ts'/g, "$1.js'"))
}
rmSync('dist/types', { recursive: true })
// The page's files are copied as they are.
cpSync('src/admin/page', 'dist/admin/page', { recursive: true, filter: (path) => extname(path) !== '.ts' })
writeFileSync('dist/COMMIT', `${readBuild().commit}\n`)

function compile(project: string): void {
  const { status } = spawnSync('node_modules/.bin/tsc', ['-p', project], { stdio: 'inherit' })
  if (status !== 0) process.exit(1)
}
