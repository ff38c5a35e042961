import { type FSWatcher, type Stats, stat, statSync, watch } from 'node:fs'
import { basename, dirname } from 'node:path'
import { guarded, type OnBug } from './guard.ts'
import { nodeTimers, type Timer, type Timers } from './timers.ts'

export interface WatchOptions {
  /** How often the file's `stat` is compared. */
  readonly pollMs: number
  /** How long the file must stay as it is before the callback: a file that is being written may be empty or cut. */
  readonly settleMs: number
  readonly onBug: OnBug
  /** Node's by default. */
  readonly timers?: Timers
}

/**
 * Calls back when the content of a file may have changed, however it was saved. A watch of the file's directory sees
 * writes and renames at once. The poll sees what such a watch misses: swapped symlinks and new bind mounts.
 * @param onChange an exception goes to `onBug`, and the watch goes on
 * @returns ends the watch
 */
export function watchFileForChanges(path: string, options: WatchOptions, onChange: () => void): () => void {
  const fileWatch = new FileWatch(path, options, onChange)
  return () => fileWatch.close()
}

class FileWatch {
  readonly #path: string
  readonly #options: WatchOptions
  readonly #timers: Timers
  readonly #onChange: () => void
  #signature: string
  #watcher: FSWatcher | null = null
  #pollTimer: Timer | null = null
  #settleTimer: Timer | null = null
  #closed = false

  constructor(path: string, options: WatchOptions, onChange: () => void) {
    this.#path = path
    this.#options = options
    this.#timers = options.timers ?? nodeTimers(() => performance.now(), options.onBug)
    this.#onChange = guarded(options.onBug, onChange)
    this.#signature = signatureAtStart(path)
    this.#watchDirectory()
    this.#poll()
  }

  close(): void {
    this.#closed = true
    this.#watcher?.close()
    this.#pollTimer?.cancel()
    this.#settleTimer?.cancel()
  }

  #watchDirectory(): void {
    const name = basename(this.#path)
    const look = guarded(this.#options.onBug, (_event: string, changed: string | null) => {
      if (changed === null || changed === name) this.#look(false)
    })
    try {
      this.#watcher = watch(dirname(this.#path), { persistent: false }, look)
      this.#watcher.on('error', () => this.#watcher?.close())
    } catch {
      // The directory doesn't exist, or the system has no more watches: the poll alone sees changes.
    }
  }

  #poll(): void {
    this.#pollTimer = this.#timers.start(() => {
      this.#look(false)
      this.#poll()
    }, this.#options.pollMs)
  }

  /** @param hasSettled the file was the same one settling time ago */
  #look(hasSettled: boolean): void {
    const settled = hasSettled ? this.#signature : null
    const compare = guarded(this.#options.onBug, (_error: Error | null, stats: Stats | undefined) => {
      const signature = signatureOf(stats)
      if (this.#closed) return
      if (signature === this.#signature) {
        // Another look may have seen a change in the meantime, and started the settling time again.
        if (signature === settled) this.#onChange()
        return
      }
      this.#signature = signature
      this.#settleTimer?.cancel()
      this.#settleTimer = this.#timers.start(() => this.#look(true), this.#options.settleMs)
    })
    stat(this.#path, compare)
  }
}

function signatureAtStart(path: string): string {
  try {
    return signatureOf(statSync(path))
  } catch {
    return signatureOf(undefined)
  }
}

/** Empty where the file can't be examined. */
function signatureOf(stats: Stats | undefined): string {
  return stats === undefined ? '' : [stats.dev, stats.ino, stats.size, stats.mtimeMs, stats.ctimeMs].join(':')
}
