import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

/** Every link between the documents leads to a file and a heading, and every path of this repository that they name exists. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const DOCUMENTS = globSync(['*.md', 'docs/**/*.md', 'deploy/**/*.md', 'examples/**/*.md'], {
  cwd: ROOT,
}).sort()
/** In a changelog and in a decision, which are history, a path may be gone since. */
const HISTORY = /^(CHANGELOG\.md$|docs\/decisions\/)/
const FOLDERS = /^(src|docs|envoy|test|deploy|demo|bench|scripts|proto|examples)\/[\w./*-]*$/

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')
const withoutCode = (text: string): string =>
  text.replaceAll(/^```[\s\S]*?^```/gm, '').replaceAll(/`[^`\n]*`/g, '')

/** The anchors of a document, as GitHub makes them of its headings. */
function anchorsOf(path: string): Set<string> {
  const headings = read(path)
    .replaceAll(/^```[\s\S]*?^```/gm, '')
    .matchAll(/^#+ (.*)$/gm)
  return new Set(
    [...headings].map(([, heading = '']) =>
      heading
        .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(/\s/g, '-'),
    ),
  )
}

for (const document of DOCUMENTS) {
  test(`${document}: its links lead somewhere`, () => {
    const links = [...withoutCode(read(document)).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link ?? '')
    const broken = links.filter((link) => {
      if (/^[a-z]+:/.test(link)) return false
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? document : relative(ROOT, join(ROOT, dirname(document), path))
      if (!existsSync(join(ROOT, target))) return true
      return anchor !== undefined && statSync(join(ROOT, target)).isFile() && !anchorsOf(target).has(anchor)
    })
    assert.deepEqual(broken, [])
  })

  if (!HISTORY.test(document))
    test(`${document}: the paths that it names exist`, () => {
      const named = [...read(document).matchAll(/`([^`\s]+)`/g)].map(([, path]) => path ?? '')
      const missing = named.filter((path) => FOLDERS.test(path) && globSync(path, { cwd: ROOT }).length === 0)
      assert.deepEqual(missing, [])
    })
}
