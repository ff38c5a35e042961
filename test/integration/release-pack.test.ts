import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { noHelm } from '../support/kubernetes.ts'

/** `npm run release:pack` in a repository of its own, which has the files of this checkout in one commit. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))

suite('the files of a release', { skip: noHelm() }, () => {
  let copy: string
  before(() => {
    copy = mkdtempSync(join(tmpdir(), 'zonegate-release-pack-'))
    const listed = ['ls-files', '--cached', '--others', '--exclude-standard', '-z']
    for (const file of execFileSync('git', listed, { cwd: ROOT, encoding: 'utf8' })
      .split('\0')
      .filter(Boolean))
      cpSync(join(ROOT, file), join(copy, file), { recursive: true, verbatimSymlinks: true })
    git('init', '--quiet')
    for (const folder of ['node_modules', '.tools']) symlinkSync(join(ROOT, folder), join(copy, folder))
    writeFileSync(join(copy, '.git/info/exclude'), 'node_modules\n.tools\n')
    git('add', '.')
    const as = ['user.name=test', 'user.email=test@test.test', 'commit.gpgsign=false']
    git(...as.flatMap((setting) => ['-c', setting]), 'commit', '--quiet', '--message', 'x')
  })
  after(() => rmSync(copy, { recursive: true, force: true }))

  function git(...args: string[]): void {
    execFileSync('git', args, { cwd: copy })
  }
  function pack(): { code: number | null; stdout: string; stderr: string } {
    const PATH = [dirname(process.execPath), process.env['PATH']].join(delimiter)
    const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/release-pack.ts'], {
      cwd: copy,
      env: { ...process.env, PATH },
      encoding: 'utf8',
    })
    return { code: status, stdout, stderr }
  }

  test('are the package, the chart, the SBOM and their sums, and a second run makes the same', () => {
    const first = pack()
    assert.equal(first.code, 0, first.stderr)
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
    assert.deepEqual(readdirSync(join(copy, 'release')).sort(), [
      'SHA256SUMS',
      'sbom.cdx.json',
      `zonegate-${version}.tgz`,
      `zonegate-chart-${version}.tgz`,
    ])
    execFileSync('sha256sum', ['--check', '--quiet', 'SHA256SUMS'], { cwd: join(copy, 'release') })
    const sbom = JSON.parse(readFileSync(join(copy, 'release/sbom.cdx.json'), 'utf8'))
    assert.deepEqual([sbom.bomFormat, sbom.metadata.component.version], ['CycloneDX', version])

    rmSync(join(copy, 'dist'), { recursive: true })
    // Another checkout has the same files with other times.
    execFileSync('find', ['deploy', 'envoy', 'src', '-type', 'f', '-exec', 'touch', '{}', '+'], { cwd: copy })
    assert.equal(pack().stdout, first.stdout)
  })

  test('are not made of files that differ from the commit', () => {
    writeFileSync(join(copy, 'new.txt'), '')
    const { code, stderr } = pack()
    assert.match(stderr, /differ from the commit:\n\?\? new\.txt\n/)
    assert.equal(code, 1)
  })
})
