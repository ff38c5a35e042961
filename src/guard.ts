/** Told of an exception that was caught: a bug. `fields` say whom it happened to. */
export type OnBug = (error: unknown, fields?: object) => void

/**
 * A callback for a timer, a watcher, a socket or a stream. Nobody above it catches anything, so an exception would end the
 * process: it goes to `onBug` instead, and what held before still holds. So does the rejection of a promise.
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
