import * as fc from 'fast-check'

/** An input that strangers can reach, and the property that must hold for whatever they send. */
export interface Target {
  readonly name: string
  check(options: CheckOptions): Promise<Checked>
}

export interface Checked {
  readonly runs: number
  /** Null if the property held, else the shrunk counterexample with its seed and path. */
  readonly failure: string | null
  /** Where among the runs of the seed. */
  readonly path: string | null
}

export interface CheckOptions {
  readonly seed: number
  readonly runs: number
  /** The path of a failure, to repeat it without searching and shrinking. */
  readonly path?: string
  /** Ends the run early, as a success. */
  readonly timeoutMs?: number
}

/** Each may be an async property. */
export function target<Values extends [unknown, ...unknown[]]>(
  name: string,
  arbitraries: { [K in keyof Values]: fc.Arbitrary<Values[K]> },
  property: (...values: Values) => void | Promise<void>,
): Target {
  return {
    name,
    check: async ({ seed, runs, path, timeoutMs }) => {
      const details = await fc.check(
        fc.asyncProperty(fc.tuple<Values>(...arbitraries), async (values) => {
          await property(...values)
        }),
        {
          seed,
          numRuns: runs,
          ...(path !== undefined && { path, endOnFailure: true }),
          ...(timeoutMs !== undefined && { interruptAfterTimeLimit: timeoutMs }),
        },
      )
      const { numRuns, failed, errorInstance, counterexamplePath } = details
      if (!failed) return { runs: numRuns, failure: null, path: null }
      const error = errorInstance instanceof Error ? errorInstance.stack : String(errorInstance)
      const failure = `${fc.defaultReportMessage(details)}\n${error}`
      return { runs: numRuns, failure, path: counterexamplePath }
    },
  }
}
