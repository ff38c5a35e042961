/**
 * Shares a reading that takes long and needs much memory: one runs at a time. Who asks meanwhile gets the next one, together with all
 * others who ask.
 */
export function sharedReading<Result>(read: () => Promise<Result>): () => Promise<Result> {
  let running: Promise<unknown> = Promise.resolve()
  let next: Promise<Result> | undefined
  const start = (): Promise<Result> => {
    next = undefined
    const result = read()
    running = result.catch(() => undefined)
    return result
  }
  return () => {
    next ??= running.then(start)
    return next
  }
}
