/** The list of all parts of a release (SBOM), as CycloneDX. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type LockFile, type Sbom, shippedPart } from './release-rules.ts'

/**
 * Of package.json and package-lock.json in the working directory. `npm sbom` leaves out what a package for development
 * needs too, so it reads a lock file of the shipped packages alone, in a folder of its own.
 * @param at the time in it. With the same time the same lock file has the same SBOM
 * @throws Error with what npm says
 */
export function makeSbom(at: Date): Sbom {
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-sbom-'))
  try {
    const { devDependencies: _, ...shipped } = JSON.parse(readFileSync('package.json', 'utf8'))
    const lock: LockFile = JSON.parse(readFileSync('package-lock.json', 'utf8'))
    writeFileSync(join(folder, 'package.json'), JSON.stringify(shipped))
    writeFileSync(join(folder, 'package-lock.json'), JSON.stringify(shippedPart(lock)))
    const args = ['sbom', '--package-lock-only', '--sbom-format', 'cyclonedx', '--prefix', folder]
    const { error, status, stdout, stderr } = spawnSync('npm', args, { encoding: 'utf8' })
    if (status !== 0) throw new Error(`npm sbom failed: ${error?.message ?? stderr.trim().split('\n')[0]}`)
    const { serialNumber: _random, ...document } = JSON.parse(stdout)
    document.metadata.timestamp = at.toISOString()
    Object.assign(document.metadata.component, { name: shipped.name, version: shipped.version })
    return document
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
