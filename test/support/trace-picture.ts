import type { ReceivedSpan } from './otlp.ts'

/** A span, and how deep it is in its trace. */
export interface PlacedSpan {
  readonly span: ReceivedSpan
  readonly depth: number
}

/** The spans below one that no other test or program has sent, depth first, by when they began. */
export function treeOf(spans: readonly ReceivedSpan[], parentId: string, depth = 0): PlacedSpan[] {
  // Envoy sends that of its call to the processor twice.
  const own = new Map(spans.filter((span) => span.parentId === parentId).map((span) => [span.spanId, span]))
  return [...own.values()]
    .sort((a, b) => Number(a.startNanos - b.startNanos))
    .flatMap((span) => [{ span, depth }, ...treeOf(spans, span.spanId, depth + 1)])
}

/** A line for each span, indented. */
export function outlineOf(spans: readonly ReceivedSpan[], parentId: string): string {
  return treeOf(spans, parentId)
    .map(({ span, depth }) => `${'  '.repeat(depth)}${span.name}`)
    .join('\n')
}

const BAR_LENGTH = 40

/** The same with bars of when each was, and milliseconds. */
export function pictureOf(spans: readonly ReceivedSpan[], parentId: string): string {
  const tree = treeOf(spans, parentId)
  const start = Math.min(...tree.map(({ span }) => micros(span.startNanos)))
  const end = Math.max(...tree.map(({ span }) => micros(span.endNanos)))
  const at = (nanos: bigint): number => Math.round(((micros(nanos) - start) / (end - start)) * BAR_LENGTH)
  const names = tree.map(({ span, depth }) => `${'  '.repeat(depth)}${shortened(span.name)}`)
  const width = Math.max(...names.map((name) => name.length))
  return tree
    .map(({ span }, index) => {
      const [from, to] = [at(span.startNanos), at(span.endNanos)]
      const bar = `${' '.repeat(from)}${'█'.repeat(Math.max(1, to - from))}`.padEnd(BAR_LENGTH + 1)
      const ms = (micros(span.endNanos) - micros(span.startNanos)) / 1000
      return `${names[index]?.padEnd(width)}  ${bar}${ms.toFixed(1).padStart(6)} ms  ${span.service}`.trimEnd()
    })
    .join('\n')
}

function shortened(name: string): string {
  return name.replace(/^async envoy\.service\.ext_proc\.v3\./, 'async …')
}

function micros(nanos: bigint): number {
  return Number(nanos / 1000n)
}
