import { parse } from 'yaml'
import { fieldChanges } from '../field-changes.ts'
import type { GatewayEvent } from '../history/event.ts'
import type { PolicyFiles } from '../xds/policy.ts'
import type { SourceFile } from '../xds/yaml-file.ts'

export type EnvoyFilesEvent = Extract<GatewayEvent, { kind: 'envoy_files' | 'envoy_files_fault' }>

/** Changes and faults that are told of one save: one mistake can make many. */
const TOLD_MAX = 20

/** Tells of the operator's files of Envoy when others are in force, and what is wrong with those that are there: each once in a row. */
export class ToldFiles {
  readonly #tell: (event: EnvoyFilesEvent) => void
  #taken: PolicyFiles | undefined
  #faults = '[]'

  constructor(tell: (event: EnvoyFilesEvent) => void) {
    this.#tell = tell
  }

  /** These are in force, be they others than before or not. The first ones are no change. */
  taken(files: PolicyFiles | undefined): void {
    const before = this.#taken
    if (files === undefined || files === before) return
    this.#taken = files
    this.#faults = '[]' // the same mistake after a sound save is another one
    if (before === undefined) return
    const changed = (['listener', 'routes', 'clusters'] as const).filter(
      (file) => files[file].text !== before[file].text,
    )
    if (changed.length === 0) return
    const changes = changed.flatMap((file) => changesOf(before[file], files[file]))
    this.#tell({
      kind: 'envoy_files',
      files: changed.map((file) => files[file].path),
      changes: changes.slice(0, TOLD_MAX),
    })
  }

  /** @param faults `file:line:column: field: what`; none: nothing is wrong */
  faults(faults: readonly string[]): void {
    const text = JSON.stringify(faults)
    if (faults.length === 0 || text === this.#faults) return
    this.#faults = text
    this.#tell({ kind: 'envoy_files_fault', faults: faults.slice(0, TOLD_MAX) })
  }
}

/** None where the text is read in another way than Envoy's files are: what is told must not keep them from being in force. */
function changesOf(
  before: SourceFile,
  after: SourceFile,
): { key: string; before: unknown; after: unknown }[] {
  try {
    return fieldChanges(resourceIn(before.text), resourceIn(after.text), '').map(
      ({ field, before: was, after: is }) => ({ key: field, before: was, after: is }),
    )
  } catch {
    return []
  }
}

/** What each of these files is about: one resource. */
function resourceIn(text: string): unknown {
  const document = parse(text)
  return document?.resources?.[0] ?? document
}
