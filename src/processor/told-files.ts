import { parse } from 'yaml'
import type { PolicyFiles } from '../envoy-files/policy.ts'
import { fieldChanges } from '../field-changes.ts'
import type { GatewayEvent } from '../history/event.ts'
import type { SourceFile } from '../xds/yaml-file.ts'

export type EnvoyFilesEvent = Extract<GatewayEvent, { kind: 'envoy_files' | 'envoy_files_fault' }>

/** The most changes and faults in one event: one mistake can cause many. */
const TOLD_MAX = 20

/** Reports when the operator's files of Envoy come into force and what is wrong with saved ones. Does not repeat itself. */
export class ToldFiles {
  readonly #tell: (event: EnvoyFilesEvent) => void
  #taken: PolicyFiles | undefined
  #faults = '[]'

  constructor(tell: (event: EnvoyFilesEvent) => void) {
    this.#tell = tell
  }

  /** These files are in force. The first ones, and the same ones again, are no change. */
  taken(files: PolicyFiles | undefined): void {
    const before = this.#taken
    if (files === undefined || files === before) return
    this.#taken = files
    this.#faults = '[]' // After a sound save, the same mistake is news again.
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

  /** @param faults each `file:line:column: field: what`; empty if nothing is wrong */
  faults(faults: readonly string[]): void {
    const text = JSON.stringify(faults)
    if (faults.length === 0 || text === this.#faults) return
    this.#faults = text
    this.#tell({ kind: 'envoy_files_fault', faults: faults.slice(0, TOLD_MAX) })
  }
}

/** Empty if a text can't be parsed: a report must not keep the files from coming into force. */
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

/** The one resource of a file. */
function resourceIn(text: string): unknown {
  const document = parse(text)
  return document?.resources?.[0] ?? document
}
