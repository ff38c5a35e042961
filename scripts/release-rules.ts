/** Rules for the files of a release. Each rule takes their contents and returns the faults that it finds. */
import { isDeepStrictEqual } from 'node:util'

interface LockEntry {
  readonly version?: string
  readonly integrity?: string
  readonly resolved?: string
  readonly hasInstallScript?: boolean
  readonly license?: string
  readonly dev?: boolean
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

export interface LockFile {
  readonly packages: Readonly<Record<string, LockEntry>>
}

/** The part of package.json that the lock file repeats. */
export type Manifest = Pick<
  LockEntry,
  'version' | 'dependencies' | 'devDependencies' | 'optionalDependencies'
>

/** Packages whose install script somebody has read. `ignore-scripts` in .npmrc keeps npm from running any. */
const INSTALL_SCRIPTS_KNOWN: Readonly<Record<string, string>> = {
  'node_modules/protobufjs':
    'it checks version ranges of the packages that use it; @grpc/proto-loader needs it',
}

/** SPDX names of the licences that a shipped package may have. */
const LICENCES = ['Apache-2.0', 'MIT', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD']

/** Every package has a hash, names no registry and runs no unknown code when it is installed. */
export function lockFaults({ packages }: LockFile): string[] {
  const own = Object.entries(packages).filter(([path]) => path !== '')
  return own.flatMap(([path, { integrity, resolved, hasInstallScript }]) => [
    ...(integrity === undefined
      ? [`${path} has no integrity: take it from \`npm view PACKAGE@VERSION dist.integrity\``]
      : []),
    ...(resolved !== undefined
      ? [`${path} names a registry: npm wrote it without omit-lockfile-registry-resolved of .npmrc`]
      : []),
    ...(hasInstallScript && INSTALL_SCRIPTS_KNOWN[path] === undefined
      ? [
          `${path} has an install script: read it, then remove the package or name it in scripts/release-rules.ts`,
        ]
      : []),
  ])
}

/**
 * The lock file agrees with package.json and has every package that another one needs. `npm ci` compares them only in part,
 * and npm silently drops an optional package that its registry does not have.
 */
export function lockStepFaults({ packages }: LockFile, manifest: Manifest): string[] {
  const { '': root = {}, ...others } = packages
  const parts = ['version', 'dependencies', 'devDependencies', 'optionalDependencies'] as const
  const unlike = parts.filter((part) => !isDeepStrictEqual(root[part], manifest[part]))
  const missing = Object.entries({ '': root, ...others }).flatMap(([path, entry]) =>
    Object.keys({ ...entry.dependencies, ...entry.devDependencies, ...entry.optionalDependencies })
      .filter((name) => !foldersSeenFrom(path).some((folder) => `${folder}node_modules/${name}` in packages))
      .map(
        (name) => `${path || 'package.json'} needs ${name}, which the lock file lacks: put its entry back`,
      ),
  )
  return [
    ...unlike.map(
      (part) =>
        `${part} differs from package.json: run \`npm install --package-lock-only\` and look at its diff`,
    ),
    ...missing,
  ]
}

/** The folders in which Node looks for a package's imports, from its own upwards. Each ends with a slash or is empty. */
function foldersSeenFrom(path: string): string[] {
  if (path === '') return ['']
  return [`${path}/`, ...foldersSeenFrom(path.slice(0, Math.max(0, path.lastIndexOf('/node_modules/'))))]
}

/** Every shipped package has a licence of the list. */
export function licenceFaults({ packages }: LockFile): string[] {
  return Object.entries(packages)
    .filter(([path, { dev }]) => path !== '' && !dev)
    .filter(([, { license }]) => license === undefined || !LICENCES.includes(license))
    .map(
      ([path, { license }]) =>
        `${path} has the licence ${license ?? '(none)'}: remove it, or add the licence to scripts/release-rules.ts`,
    )
}

/**
 * The first section is the version's. It has a date, at least one change, and a line about compatible versions.
 * @param envoy the tested version, such as `1.40.0`
 */
export function changelogFaults(changelog: string, version: string, envoy: string): string[] {
  const [first = ''] = changelog.split(/^## /m).slice(1)
  const head = first.split('\n')[0] ?? ''
  const minor = envoy.split('.', 2).join('.')
  const note = /^Compatible: (?:.+\n?)+/m.exec(first)?.[0]
  return [
    ...(head === version || head.startsWith(`${version} `)
      ? dateFaults(head, version)
      : [
          `the first section is "## ${head}", package.json has ${version}: both need the version to release, here as "## VERSION - YYYY-MM-DD"`,
        ]),
    ...(/^- ./m.test(first) ? [] : [`"## ${head}" lists no change`]),
    ...(note === undefined
      ? [`"## ${head}" has no line "Compatible: ..." with the versions that it works with`]
      : []),
    ...(note === undefined || note.includes(`Envoy ${minor}`)
      ? []
      : [`"## ${head}": the line "Compatible:" does not name Envoy ${minor}, the tested version`]),
  ]
}

function dateFaults(head: string, version: string): string[] {
  if (/^\S+ - \d{4}-\d\d-\d\d$/.test(head)) return []
  return [`"## ${head}" has no date: "## ${version} - YYYY-MM-DD"`]
}

/** @param files texts by name, each of which names Envoy's image */
export function envoyFaults(files: Readonly<Record<string, string>>, expected: string): string[] {
  return Object.entries(files).flatMap(([name, text]) => {
    const versions = [...text.matchAll(/envoyproxy\/envoy\S*:v([\d.]+)/g)].map(([, version]) => version)
    if (versions.length === 0) return [`${name} names no version of Envoy`]
    return versions
      .filter((version) => version !== expected)
      .map((version) => `${name} has Envoy ${version}, src/status/version.ts ${expected}: they must be equal`)
  })
}

/** Where a file repeats the version of package.json. */
const VERSIONS: Readonly<Record<string, RegExp>> = {
  'package-lock.json': /^ {2}"version": "(.+)"/gm,
  'deploy/helm/zonegate/Chart.yaml': /^(?:version|appVersion): (.+)$/gm,
  'docker-bake.hcl': /^variable "VERSION" \{ default = "(.+)" \}/gm,
  'docs/kubernetes.md': /registry\.example\/zonegate:(\S+)/g,
}
export const FILES_WITH_VERSION = Object.keys(VERSIONS)

/** @param files texts of FILES_WITH_VERSION by name */
export function versionFaults(files: Readonly<Record<string, string>>, version: string): string[] {
  return Object.entries(VERSIONS).flatMap(([name, pattern]) => {
    const found = [...(files[name] ?? '').matchAll(pattern)].map(([, text = '']) => text)
    if (found.length === 0) return [`${name} has no version where scripts/release-rules.ts looks for it`]
    return found
      .filter((text) => text !== version)
      .map((text) => `${name} has version ${text}, package.json ${version}`)
  })
}

/** A lock file without the packages for development. */
export function shippedPart(lock: LockFile): LockFile {
  const { '': root, ...others } = lock.packages
  const { devDependencies: _, ...shippedRoot } = (root ?? {}) as { devDependencies?: object }
  const shipped = Object.entries(others).filter(([, { dev }]) => !dev)
  return { ...lock, packages: { '': shippedRoot, ...Object.fromEntries(shipped) } }
}

/** CycloneDX. */
export interface Sbom {
  readonly components?: readonly { readonly name: string; readonly purl?: string }[]
}

/**
 * The SBOM has every package.
 * @param paths paths of the packages in the lock file
 */
export function sbomFaults({ components = [] }: Sbom, paths: readonly string[]): string[] {
  const names = new Set(components.map(({ name, purl }) => nameOfPurl(purl) ?? name))
  return paths
    .filter((path) => path !== '')
    .map((path) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length))
    .filter((name) => !names.has(name))
    .map((name) => `the SBOM does not have ${name}`)
}

/** `pkg:npm/%40scope/name@1.0.0` */
function nameOfPurl(purl: string | undefined): string | undefined {
  const [, name] = /^pkg:npm\/(.+)@[^@]+$/.exec(purl ?? '') ?? []
  return name === undefined ? undefined : decodeURIComponent(name)
}
