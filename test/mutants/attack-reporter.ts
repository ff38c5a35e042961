import type { TestEvent } from 'node:test/reporters'

/** How one test ended, as a line of JSON for attack-run.ts. */
export interface TestEnd {
  readonly title: string
  /** `shown`: an assertion of the test's own failed. `broken`: anything else, a hook's assertion or a timeout among it. */
  readonly end: 'passed' | 'shown' | 'broken'
  readonly why?: string
}

/** A reporter of node:test. It leaves out suites, unless a hook failed, because it reports their tests. */
// biome-ignore lint/style/noDefaultExport: node:test expects a reporter as the default export
export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const { type, data } of events) {
    if (type === 'test:pass') {
      const isTest = data.details.type !== 'suite' && data.skip === undefined && data.todo === undefined
      if (isTest) yield line({ title: data.name, end: 'passed' })
    } else if (type === 'test:fail') {
      const { error } = data.details
      const { failureType: failure, cause, message } = error as Error & { failureType?: string }
      if (failure === 'subtestsFailed') continue
      const { code, message: why = message } = (cause ?? {}) as { code?: string; message?: string }
      const shown = failure === 'testCodeFailure' && code === 'ERR_ASSERTION'
      yield line({ title: data.name, end: shown ? 'shown' : 'broken', why: `${failure}: ${why}` })
    }
  }
}

function line(end: TestEnd): string {
  return `${JSON.stringify(end)}\n`
}
