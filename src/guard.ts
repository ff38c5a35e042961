/** Receives a caught exception, which is a bug. `fields` say what it concerned. */
export type OnBug = (error: unknown, fields?: object) => void

/**
 * Wraps a callback of a timer, a watcher, a socket or a stream. Nothing above such a callback catches exceptions, so one would
 * end the process. Exceptions and rejected promises go to `onBug` instead, and the process goes on.
 */
export function guarded<Args extends readonly unknown[]>(
  onBug: OnBug,
  run: (...args: Args) => void | Promise<void>,
): (...args: Args) => void {
  return (...args) => {
    try {
      run(...args)?.catch(onBug)
    } catch (error) {
      onBug(error)
    }
  }
}
