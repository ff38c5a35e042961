import type { Part } from './instance.ts'

/** A part that failed so often in a row won't come back by itself. */
export const FAILURES_MAX = 10
/** A part that has lived so long is well: what it dies of afterwards is a new failure. */
const WELL_AFTER_MS = 10_000
/** Of the pause before a new start. The first one is short: zones that aren't hot get 502 meanwhile. */
const PAUSE_MS_MIN = 100
const PAUSE_MS_MAX = 5000
/** How often it is tried whether what a start waits for is there. */
const WAIT_MS = 1000

/** A start has to wait for something of the operator's, which is no failure of the part. */
export class NotYet extends Error {}

export interface Supervision {
  /** Starts the part and waits until it is ready. Throws an Error where that fails, with nothing left running. */
  readonly start: () => Promise<Part>
  readonly say: (text: string) => void
  /** Settles once everything is to end. */
  readonly stopped: Promise<unknown>
  readonly now: () => number
  readonly sleep: (ms: number) => Promise<unknown>
}

/**
 * Starts a part again whenever it ends by itself.
 * @returns why it is given up; never settles while the part can be kept alive, nor once everything is to end
 */
export async function supervise(first: Part, supervision: Supervision): Promise<string> {
  const { say, now } = supervision
  let stopping = false
  const stopped = supervision.stopped.then(() => {
    stopping = true
  })
  const never = new Promise<never>(() => undefined)
  let part = first
  let failures = 0
  for (;;) {
    const readyMs = now()
    await Promise.race([part.gone, stopped])
    if (stopping) return never
    let why = await part.gone
    const wasWell = isOrdered(why) || now() - readyMs >= WELL_AFTER_MS
    failures = wasWell ? 0 : failures + 1
    say(`${part.name} ended by itself: ${why}; starting it again`)
    for (let said = ''; ; ) {
      if (failures >= FAILURES_MAX)
        return `${part.name} failed ${failures} times in a row, the last time: ${why}`
      await Promise.race([supervision.sleep(said === '' ? pauseMs(failures) : WAIT_MS), stopped])
      if (stopping) return never
      try {
        part = await supervision.start()
        say(`${part.name} is ready again`)
        break
      } catch (error) {
        if (stopping) return never
        const { message } = error as Error
        if (error instanceof NotYet) {
          if (message !== said) say(message)
          said = message
          continue
        }
        ;[said, why] = ['', message]
        failures += 1
        say(`${message}; trying again`)
      }
    }
  }
}

/** Killed or asked to end by someone else, the kernel's out-of-memory killer for one: nothing is wrong with the part. */
function isOrdered(why: string): boolean {
  return why === 'ended by SIGKILL' || why === 'ended by SIGTERM' || why === 'exit code 0'
}

function pauseMs(failures: number): number {
  return Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** failures)
}
