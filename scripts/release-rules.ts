/** What must hold of a release's files: each rule takes their contents, and returns its faults. */

interface LockEntry {
  readonly version?: string
  readonly integrity?: string
  readonly resolved?: string
  readonly hasInstallScript?: boolean
  readonly license?: string
  readonly dev?: boolean
  readonly optional?: boolean
}

export interface LockFile {
  readonly packages: Readonly<Record<string, LockEntry>>
}

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

/** Of the packages that a user gets. */
export function licenceFaults({ packages }: LockFile): string[] {
  return Object.entries(packages)
    .filter(([path, { dev, optional }]) => path !== '' && !dev && !optional)
    .filter(([, { license }]) => license === undefined || !LICENCES.includes(license))
    .map(([path, { license }]) => `${path} has the licence ${license ?? '(none)'}, which is not in the list`)
}

/** A version's section says with which Envoy and which files of an earlier version it goes. */
export function changelogFaults(changelog: string, version: string): string[] {
  const sections = changelog.split(/^## /m).slice(1)
  const own = sections.find((section) => section.startsWith(`${version} `))
  if (own === undefined)
    return [`CHANGELOG.md has no section "## ${version} - YYYY-MM-DD": rename "Unreleased", and date it`]
  return [
    ...(/^\S+ - \d{4}-\d\d-\d\d$/m.test(own.split('\n')[0] ?? '')
      ? []
      : [`the section of ${version} in CHANGELOG.md has no date`]),
    ...(/^Compatible: ./m.test(own)
      ? []
      : [`the section of ${version} in CHANGELOG.md has no line "Compatible: ..."`]),
  ]
}

/** @param files by name: whatever names Envoy's image */
export function envoyFaults(files: Readonly<Record<string, string>>, expected: string): string[] {
  return Object.entries(files).flatMap(([name, text]) => {
    const versions = [...text.matchAll(/envoyproxy\/envoy\S*:v([\d.]+)/g)].map(([, version]) => version)
    if (versions.length === 0) return [`${name} names no version of Envoy`]
    return versions
      .filter((version) => version !== expected)
      .map((version) => `${name} has Envoy ${version}, src/status/version.ts ${expected}`)
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
