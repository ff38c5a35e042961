import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type RenderedFile, RUN_FOLDER, textBefore, writeRendered } from '../envoy-files/folder.ts'
import { inlineHeadersIn, type Rendered } from '../envoy-files/render.ts'
import { isSecretFile } from '../envoy-files/upstreams.ts'
import type { Logger } from '../log.ts'
import type { Timer, Timers } from '../timers.ts'

/** The pause before the processor tries again to write its files. */
const RETRY_MS = 1000

interface RunFolderSeams {
  readonly log: Pick<Logger, 'info' | 'warn'>
  readonly timers: Timers
  /** Called when the files are in their place, where Envoy can read them. */
  readonly onWritten: (rendered: Partial<Rendered>) => void
}

/** The folder from which Envoy reads its files, if Envoy runs on this machine. */
export class RunFolder {
  readonly #isHere: boolean
  readonly #seams: RunFolderSeams
  #isTold = false
  #fault: string | undefined
  /** What is still to be written. */
  #unwritten: Partial<Rendered> = {}
  #retry: Timer | undefined

  /** @param isHere true if Envoy reaches the processor by a socket, so that it must be on this machine */
  constructor(isHere: boolean, seams: RunFolderSeams) {
    this.#isHere = isHere
    this.#seams = seams
  }

  /** Inline headers of an Envoy that started with the files of this folder. Undefined if there is no bootstrap. */
  inlineHeaders(): ReadonlySet<string> | undefined {
    try {
      const text = textBefore(RUN_FOLDER, 'bootstrap')
      return text === undefined ? undefined : inlineHeadersIn(text)
    } catch {
      return undefined
    }
  }

  /** True if Envoy reads its files on another machine. */
  get isElsewhere(): boolean {
    return this.#isTold
  }

  /** Why the last attempt to write failed, so that Envoy keeps its previous files. Another attempt follows. */
  get fault(): string | undefined {
    return this.#fault
  }

  /** Writes a file that does not exist yet. @throws if it can't be rendered */
  writeMissing(file: RenderedFile, rendering: () => string): void {
    if (textBefore(RUN_FOLDER, file) === undefined) this.write({ [file]: rendering() })
  }

  /** Writes the files that differ, as soon as the disk has room. Envoy reads them at once, except for its bootstrap. */
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
        'no such folder, so Envoy runs on another machine: run "zonegate render" there when its files or the rules change',
      )
    this.#isTold = true
    onWritten(rendered)
  }

  /** Removes certificate files that no cluster uses any more. A cluster that Envoy still drains has read its files already. */
  removeSecrets(isUsed: (name: string) => boolean): void {
    if (!existsSync(RUN_FOLDER)) return
    try {
      for (const name of readdirSync(RUN_FOLDER))
        if (isSecretFile(name) && !isUsed(name)) rmSync(join(RUN_FOLDER, name), { force: true })
    } catch {
      // The folder can't be written to. A file that is left over does no harm.
    }
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
      const fault = `${RUN_FOLDER}/: the processor can't write Envoy's files (${message}); it tries again until there is room`
      if (fault !== this.#fault)
        log.warn(
          { folder: RUN_FOLDER, error: message },
          "the processor can't write Envoy's files, it tries again",
        )
      this.#fault = fault
      this.#retry?.cancel()
      this.#retry = timers.start(() => this.#tryToWrite(), RETRY_MS)
    }
  }
}
