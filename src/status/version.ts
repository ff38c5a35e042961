import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The Envoy that Zonegate is tested with (decision 5). */
export const ENVOY_VERSION = '1.40.0'

/** Patch releases (1.40.x) count as tested, too (decision 5). */
export function isTestedEnvoy(version: string): boolean {
  const minor = (text: string): string => text.split('.', 2).join('.')
  return minor(version) === minor(ENVOY_VERSION)
}

/** The root of the repository or package, from `src/` and from `dist/`. */
const ROOT = new URL('../../', import.meta.url)
/** A package (`dist/COMMIT`) and an image (`src/COMMIT`) have this file instead of `.git`. */
const COMMIT_FILE = new URL('../COMMIT', import.meta.url)

export interface Build {
  readonly version: string
  /** Short hash, with `-dirty` where files differ from it; `unknown` without a repository. */
  readonly commit: string
  readonly envoy: string
}

export function readBuild(): Build {
  return { version: readVersion(), commit: readCommit(), envoy: ENVOY_VERSION }
}

function readVersion(): string {
  try {
    return String(JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')).version)
  } catch {
    return 'unknown'
  }
}

function readCommit(): string {
  try {
    return readFileSync(COMMIT_FILE, 'utf8').trim() || 'unknown'
  } catch {
    return commitOfCheckout() ?? 'unknown'
  }
}

/** Undefined outside of a checkout, or inside another repository, whose commit says nothing about this code. */
function commitOfCheckout(): string | undefined {
  const root = fileURLToPath(ROOT)
  const git = (...args: string[]): string | undefined => {
    const { status, stdout } = spawnSync('git', ['-C', root, ...args], { encoding: 'utf8' })
    return status === 0 ? stdout.trim() : undefined
  }
  if (git('rev-parse', '--show-prefix') !== '') return undefined
  return git('describe', '--always', '--dirty', '--exclude=*')
}
