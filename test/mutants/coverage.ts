/** Which test files run which parts of the sources: V8's own block coverage, a run of each test file. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runTests } from './run-tests.ts'

interface Range {
  readonly startOffset: number
  readonly endOffset: number
  readonly count: number
}

export interface TestFile {
  readonly file: string
  readonly durationMs: number
  covers(source: string, offset: number): boolean
}

const TIMEOUT_MS = 120_000

/** @throws Error where the tests fail without any mutant */
export async function measure(file: string): Promise<TestFile> {
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-coverage-'))
  try {
    const startedMs = performance.now()
    const outcome = await runTests(file, { coverage: folder, timeoutMs: TIMEOUT_MS })
    if (outcome !== 'passed') throw new Error(`${file}: ${outcome} without any mutant`)
    const durationMs = performance.now() - startedMs
    const ranges = readRanges(folder)
    return { file, durationMs, covers: (source, offset) => isCovered(ranges.get(source) ?? [], offset) }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** By file; the smallest first. */
function readRanges(folder: string): Map<string, Range[]> {
  const all = new Map<string, Range[]>()
  for (const name of readdirSync(folder)) {
    const { result } = JSON.parse(readFileSync(join(folder, name), 'utf8')) as {
      result: { url: string; functions: { ranges: Range[] }[] }[]
    }
    for (const { url, functions } of result) {
      if (!url.startsWith('file:')) continue
      const path = fileURLToPath(url)
      all.set(path, [...(all.get(path) ?? []), ...functions.flatMap(({ ranges }) => ranges)])
    }
  }
  const size = ({ startOffset, endOffset }: Range): number => endOffset - startOffset
  for (const ranges of all.values()) ranges.sort((a, b) => size(a) - size(b))
  return all
}

/** The innermost block counts. */
function isCovered(ranges: readonly Range[], offset: number): boolean {
  const innermost = ranges.find(({ startOffset, endOffset }) => startOffset <= offset && offset < endOffset)
  return (innermost?.count ?? 0) > 0
}
