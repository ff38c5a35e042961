/** Makes the files of a release in release/: the package, the chart, the SBOM and their SHA-256 sums. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fetchKubernetesTools, helm } from '../test/support/kubernetes.ts'
import { makeSbom } from './sbom.ts'

const USAGE = `npm run release:pack

Makes the files of a release from the commit that is checked out:

  release/zonegate-VERSION.tgz          the package, for npm install
  release/zonegate-chart-VERSION.tgz    the Helm chart
  release/sbom.cdx.json                 the list of all parts (CycloneDX)
  release/SHA256SUMS                    their sums: sha256sum -c SHA256SUMS

The same commit gives the same files on another machine with the same npm, so anybody can make and compare them.
`
const RELEASE = 'release'
const CHART = 'deploy/helm/zonegate'

function main(): void {
  const changed = git('status', '--porcelain')
  if (changed !== '') throw new Error(`the files differ from the commit:\n${changed}\ncommit them first`)
  const committedAt = new Date(Number(git('log', '-1', '--format=%ct')) * 1000)
  rmSync(RELEASE, { recursive: true, force: true })
  mkdirSync(RELEASE)
  execFileSync('npm', ['pack', '--ignore-scripts=false', '--silent', '--pack-destination', RELEASE])
  packChart(committedAt)
  writeFileSync(join(RELEASE, 'sbom.cdx.json'), `${JSON.stringify(makeSbom(committedAt), null, 2)}\n`)
  const sums = readdirSync(RELEASE)
    .sort()
    .map(
      (name) =>
        `${createHash('sha256')
          .update(readFileSync(join(RELEASE, name)))
          .digest('hex')}  ${name}\n`,
    )
  writeFileSync(join(RELEASE, 'SHA256SUMS'), sums.join(''))
  process.stdout.write(sums.join(''))
}

/** Helm puts each file's time into the archive, so all of them get the commit's. */
function packChart(at: Date): void {
  fetchKubernetesTools((text) => void process.stderr.write(`zonegate: ${text}\n`))
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-chart-'))
  try {
    const copy = join(folder, 'zonegate')
    cpSync(CHART, copy, { recursive: true, dereference: true })
    for (const path of globSync('**/{*,.helmignore}', { cwd: copy })) utimesSync(join(copy, path), at, at)
    const { code, stdout, stderr } = helm('package', copy, '--destination', folder)
    if (code !== 0) throw new Error(`helm package failed: ${stderr}`)
    const archive = stdout.trim().split(': ').at(-1) ?? ''
    cpSync(
      archive,
      join(RELEASE, archive.slice(dirname(archive).length + 1).replace('zonegate-', 'zonegate-chart-')),
    )
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function git(...args: string[]): string {
  return execFileSync('git', args, { encoding: 'utf8' }).trim()
}

if (process.argv.includes('--help')) process.stdout.write(USAGE)
else
  try {
    main()
  } catch (error) {
    process.stderr.write(`zonegate: ${(error as Error).message}\n`)
    process.exitCode = 1
  }
