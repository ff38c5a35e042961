import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type RenderedFile, RUN_FOLDER, textBefore, writeRendered } from '../envoy-files/folder.ts'
import { inlineHeadersIn, type Rendered } from '../envoy-files/render.ts'
import { isSecretFile } from '../envoy-files/upstreams.ts'
import type { Logger } from '../log.ts'
import type { Timer, Timers } from '../timers.ts'

/** What could not be written is tried again so often, milliseconds. */
const RETRY_MS = 1000

export interface RunFolderSeams {
  readonly log: Pick<Logger, 'info' | 'warn'>
  readonly timers: Timers
  /** Envoy can read it now: it is in its place, or was before. */
  readonly onWritten: (rendered: Partial<Rendered>) => void
}

/** Where Envoy reads its files, if it runs where this processor does. */
export class RunFolder {
  readonly #isHere: boolean
  readonly #seams: RunFolderSeams
  #isTold = false
  #fault: string | undefined
  /** What is still to be written. */
  #unwritten: Partial<Rendered> = {}
  #retry: Timer | undefined

  /** @param isHere Envoy runs on this machine: it reaches the processor by a socket */
  constructor(isHere: boolean, seams: RunFolderSeams) {
    this.#isHere = isHere
    this.#seams = seams
  }

  /** Those that an Envoy which runs already keeps apart, if it was started with what is here; undefined: there is nothing. */
  inlineHeaders(): ReadonlySet<string> | undefined {
    try {
      const text = textBefore(RUN_FOLDER, 'bootstrap')
      return text === undefined ? undefined : inlineHeadersIn(text)
    } catch {
      return undefined
    }
  }

  /** Why Envoy goes on with what it read before: the last writing failed, and will be tried again. */
  get fault(): string | undefined {
    return this.#fault
  }

  /** @throws where there is no such file yet, and it can't be rendered */
  writeMissing(file: RenderedFile, rendering: () => string): void {
    if (textBefore(RUN_FOLDER, file) === undefined) this.write({ [file]: rendering() })
  }

  /** Writes what differs, as soon as there is room; Envoy reads it at once, but for its bootstrap. */
  write(rendered: Partial<Rendered>): void {
    const { log, onWritten } = this.#seams
    if (this.#isHere || existsSync(RUN_FOLDER)) {
      this.#unwritten = { ...this.#unwritten, ...rendered }
      this.#tryToWrite()
      return
    }
    if (!this.#isTold)
      log.warn(
        { folder: RUN_FOLDER },
        'no such folder, so Envoy runs elsewhere: run "zonegate render" there when its files or the rules change',
      )
    this.#isTold = true
    onWritten(rendered)
  }

  /** Removes files of certificates that no cluster names any more. Envoy has read those of clusters that it still drains. */
  removeSecrets(isUsed: (name: string) => boolean): void {
    if (!existsSync(RUN_FOLDER)) return
    for (const name of readdirSync(RUN_FOLDER))
      if (isSecretFile(name) && !isUsed(name)) rmSync(join(RUN_FOLDER, name), { force: true })
  }

  close(): void {
    this.#retry?.cancel()
  }

  #tryToWrite(): void {
    const { log, timers, onWritten } = this.#seams
    const rendered = this.#unwritten
    try {
      const written = writeRendered(RUN_FOLDER, rendered).map((name) => join(RUN_FOLDER, name))
      if (written.length > 0) log.info({ files: written }, 'written for Envoy')
      this.#fault = undefined
      this.#unwritten = {}
      this.close()
      onWritten(rendered)
    } catch (error) {
      const { message } = error as Error
      const fault = `${RUN_FOLDER}/: can't write what Envoy reads (${message}): make room, it is tried again until then`
      if (fault !== this.#fault)
        log.warn({ folder: RUN_FOLDER, error: message }, "can't write what Envoy reads: it is tried again")
      this.#fault = fault
      this.#retry?.cancel()
      this.#retry = timers.start(() => this.#tryToWrite(), RETRY_MS)
    }
  }
}
