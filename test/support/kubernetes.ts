import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** The PyPI package that carries the schemas of Kubernetes' own API, a release of it for each of theirs. */
const VALIDATOR = 'kubernetes-validate==1.37.0'
const VALIDATOR_FOLDER = join(ROOT, '.tools/kubernetes-validate-1.37.0')

// biome-ignore lint/suspicious/noExplicitAny: tests read what they expect, and the schemas check the rest
export type Manifest = any

/** Why manifests can't be rendered here, or false. */
export function noKustomize(): string | false {
  return kustomize() === undefined && 'needs kubectl or kustomize in PATH'
}

/** What `kubectl kustomize FOLDER` prints. */
export function renderManifests(folder = 'deploy/kubernetes'): string {
  const [command = '', ...args] = kustomize() ?? []
  return execFileSync(command, [...args, folder], { cwd: ROOT, encoding: 'utf8' })
}

export function parseManifests(text: string): Manifest[] {
  return parseAllDocuments(text).map((document) => document.toJS())
}

function kustomize(): string[] | undefined {
  const candidates = [
    ['kubectl', 'kustomize'],
    ['kustomize', 'build'],
  ]
  return candidates.find(([command = '', ...args]) => {
    const { error, status } = spawnSync(command, [...args, '--help'], { stdio: 'ignore' })
    return error === undefined && status === 0
  })
}

/** Fetches the validator into .tools, once. Without it its tests are left out, and say so. */
export function fetchValidator(say: (text: string) => void): void {
  if (existsSync(VALIDATOR_FOLDER)) return
  say(`fetching ${VALIDATOR} (once; about 25 MB)`)
  const scratch = `${VALIDATOR_FOLDER}.new`
  rmSync(scratch, { recursive: true, force: true })
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--root-user-action=ignore']
  const { status, stderr } = spawnSync('python3', [...pip, '--target', scratch, VALIDATOR], {
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  })
  if (status === 0) renameSync(scratch, VALIDATOR_FOLDER)
  else say(`can't fetch ${VALIDATOR}: ${stderr?.trim().split('\n').at(-1) ?? 'python3 is not installed'}`)
}

export function noValidator(): string | false {
  return !existsSync(VALIDATOR_FOLDER) && `needs ${VALIDATOR} (PyPI), which npm test fetches into .tools`
}

/** @returns what the schemas of this Kubernetes have against the manifests in the file; empty: nothing */
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
