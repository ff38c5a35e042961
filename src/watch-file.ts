import { type FSWatcher, type Stats, stat, statSync, watch } from 'node:fs'
import { basename, dirname } from 'node:path'
import { guarded, type OnBug } from './guard.ts'
import { nodeTimers, type Timer, type Timers } from './timers.ts'

export interface WatchOptions {
  /** How often to compare the file's `stat`. */
  readonly pollMs: number
  /** How long the file must stay as it is before the callback: a file that is being written may be empty or cut. */
  readonly settleMs: number
  /** The file's state before the caller read it, so that a save since then counts. Its state now by default. */
  readonly since?: FileState
  readonly onBug: OnBug
  /** Node's timers by default. */
  readonly timers?: Timers
}

/** Differs if the file, or one that replaced it, was written in between. Empty if `stat` fails. */
export type FileState = string

export function fileState(path: string): FileState {
  try {
    return stateOf(statSync(path))
  } catch {
    return stateOf(undefined)
  }
}

/**
 * Calls back when the content of a file may have changed, however it was saved. A watch of the file's directory sees
 * writes and renames at once. The poll sees what such a watch misses: swapped symlinks and new bind mounts.
 * @param onChange its exceptions go to `onBug`, and the watch goes on
 * @returns a function that ends the watch
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
  #state: FileState
  #watcher: FSWatcher | null = null
  #pollTimer: Timer | null = null
  #settleTimer: Timer | null = null
  /** The settling time of a change is over: if the file is still the same, the change is complete. */
  #isSettled = false
  #isLooking = false
  #mustLookAgain = false
  #closed = false

  constructor(path: string, options: WatchOptions, onChange: () => void) {
    this.#path = path
    this.#options = options
    this.#timers = options.timers ?? nodeTimers(() => performance.now(), options.onBug)
    this.#onChange = guarded(options.onBug, onChange)
    this.#state = options.since ?? fileState(path)
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
      if (changed === null || changed === name) this.#look()
    })
    try {
      this.#watcher = watch(dirname(this.#path), { persistent: false }, look)
      this.#watcher.on('error', () => this.#watcher?.close())
    } catch {
      // The directory doesn't exist, or the system has no watches left. The poll still sees changes.
    }
  }

  #poll(): void {
    this.#pollTimer = this.#timers.start(() => {
      this.#look()
      this.#poll()
    }, this.#options.pollMs)
  }

  /** One look at a time: on a network file system that hangs, more of them would occupy all of libuv's threads. */
  #look(): void {
    this.#mustLookAgain = this.#isLooking
    if (this.#isLooking) return
    this.#isLooking = true
    const isSettled = this.#isSettled
    const compare = guarded(this.#options.onBug, (_error: Error | null, stats: Stats | undefined) => {
      this.#isLooking = false
      if (this.#closed) return
      const state = stateOf(stats)
      if (state !== this.#state) this.#settle(state)
      else if (isSettled) {
        this.#isSettled = false
        this.#onChange()
      }
      if (this.#mustLookAgain) this.#look()
    })
    stat(this.#path, compare)
  }

  #settle(state: FileState): void {
    this.#state = state
    this.#isSettled = false
    this.#settleTimer?.cancel()
    this.#settleTimer = this.#timers.start(() => {
      this.#isSettled = true
      this.#look()
    }, this.#options.settleMs)
  }
}

function stateOf(stats: Stats | undefined): FileState {
  return stats === undefined ? '' : [stats.dev, stats.ino, stats.size, stats.mtimeMs, stats.ctimeMs].join(':')
}
