/** What must hold of a release's files: each rule takes their contents, and returns its faults. */
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

/** Of package.json: what its lock file repeats. */
export type Manifest = Pick<
  LockEntry,
  'version' | 'dependencies' | 'devDependencies' | 'optionalDependencies'
>

/** Packages with a script that npm would run; `ignore-scripts` in .npmrc keeps it from that. */
const INSTALL_SCRIPTS_KNOWN: Readonly<Record<string, string>> = {
  'node_modules/protobufjs': 'it looks whether its version scheme fits; @grpc/proto-loader brings it along',
}

/** Terms under which the program may be handed on, as SPDX has them. */
const LICENCES = ['Apache-2.0', 'MIT', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD']

/** Of package-lock.json: each package by its hash, from no particular registry, and without code that runs at install. */
export function lockFaults({ packages }: LockFile): string[] {
  const own = Object.entries(packages).filter(([path]) => path !== '')
  return own.flatMap(([path, { integrity, resolved, hasInstallScript }]) => [
    ...(integrity === undefined
      ? [`${path} has no integrity: take it from \`npm view PACKAGE@VERSION dist.integrity\``]
      : []),
    ...(resolved !== undefined
      ? [`${path} names where it came from: omit-lockfile-registry-resolved of .npmrc was not in force`]
      : []),
    ...(hasInstallScript && INSTALL_SCRIPTS_KNOWN[path] === undefined
      ? [
          `${path} has an install script: read it, and do without the package or name it in scripts/release-rules.ts`,
        ]
      : []),
  ])
}

/**
 * The lock file repeats package.json, and has whatever its packages need: `npm ci` looks at the first in part only, and npm
 * drops an optional package without a word when its registry does not have it.
 */
export function lockStepFaults({ packages }: LockFile, manifest: Manifest): string[] {
  const { '': root = {}, ...others } = packages
  const parts = ['version', 'dependencies', 'devDependencies', 'optionalDependencies'] as const
  const unlike = parts.filter((part) => !isDeepStrictEqual(root[part], manifest[part]))
  const missing = Object.entries({ '': root, ...others }).flatMap(([path, entry]) =>
    Object.keys({ ...entry.dependencies, ...entry.devDependencies, ...entry.optionalDependencies })
      .filter((name) => !foldersSeenFrom(path).some((folder) => `${folder}node_modules/${name}` in packages))
      .map((name) => `${path || 'package.json'} needs ${name}, which is not in it: put its entry back`),
  )
  return [
    ...unlike.map(
      (part) =>
        `${part} is not that of package.json: \`npm install --package-lock-only\` and look at its diff`,
    ),
    ...missing,
  ]
}

/** Where Node looks for what a package imports: its own folder, then each above; each ends with a slash, or is empty. */
function foldersSeenFrom(path: string): string[] {
  if (path === '') return ['']
  return [`${path}/`, ...foldersSeenFrom(path.slice(0, Math.max(0, path.lastIndexOf('/node_modules/'))))]
}

/** Of the packages that a user gets. */
export function licenceFaults({ packages }: LockFile): string[] {
  return Object.entries(packages)
    .filter(([path, { dev }]) => path !== '' && !dev)
    .filter(([, { license }]) => license === undefined || !LICENCES.includes(license))
    .map(
      ([path, { license }]) =>
        `${path} has the licence ${license ?? '(none)'}: do without it, or add that to scripts/release-rules.ts`,
    )
}

/**
 * A version's section is the first one, with a date, what has changed, and a note of what it goes with.
 * @param envoy the version that it is tested with, `1.40.0`
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
          `the first section is "## ${head}", package.json has ${version}: name it "## VERSION - YYYY-MM-DD" for the version that is to be released, in both`,
        ]),
    ...(/^- ./m.test(first) ? [] : [`"## ${head}" says nothing of what has changed`]),
    ...(note === undefined ? [`"## ${head}" has no line "Compatible: ...": what does it go with?`] : []),
    ...(note === undefined || note.includes(`Envoy ${minor}`)
      ? []
      : [`"## ${head}": the line "Compatible:" does not name Envoy ${minor}, which this is tested with`]),
  ]
}

function dateFaults(head: string, version: string): string[] {
  if (/^\S+ - \d{4}-\d\d-\d\d$/.test(head)) return []
  return [`"## ${head}" has no date: "## ${version} - YYYY-MM-DD"`]
}

/** @param files by name: whatever names Envoy's image */
export function envoyFaults(files: Readonly<Record<string, string>>, expected: string): string[] {
  return Object.entries(files).flatMap(([name, text]) => {
    const versions = [...text.matchAll(/envoyproxy\/envoy\S*:v([\d.]+)/g)].map(([, version]) => version)
    if (versions.length === 0) return [`${name} names no version of Envoy`]
    return versions
      .filter((version) => version !== expected)
      .map((version) => `${name} has Envoy ${version}, src/status/version.ts ${expected}: they must be one`)
  })
}

/** A lock file without what only its developers need. */
export function shippedPart(lock: LockFile): LockFile {
  const { '': root, ...others } = lock.packages
  const { devDependencies: _, ...shippedRoot } = (root ?? {}) as { devDependencies?: object }
  const shipped = Object.entries(others).filter(([, { dev }]) => !dev)
  return { ...lock, packages: { '': shippedRoot, ...Object.fromEntries(shipped) } }
}

interface Sbom {
  readonly components?: readonly { readonly name: string; readonly purl?: string }[]
}

/**
 * @param sbom CycloneDX
 * @param paths of packages in the lock file, each of which it should have
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
