import { readFileSync } from 'node:fs'

/** The manifest lies one or two folders above, by whether this runs as TypeScript or as emitted JavaScript. */
const MANIFESTS = ['../../package.json', '../../../package.json']

/** This program's version; `unknown` where its package.json is not beside it. */
export function readVersion(): string {
  for (const path of MANIFESTS) {
    try {
      const manifest = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
      if (manifest.name === 'zonegate') return String(manifest.version)
    } catch {}
  }
  return 'unknown'
}
