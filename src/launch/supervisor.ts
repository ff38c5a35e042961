import type { Part } from './instance.ts'

/** The launcher gives up a part that failed so often in a row. */
export const FAILURES_MAX = 10
/** A part that has run for so long is healthy: its next failure is the first in a row. */
const WELL_AFTER_MS = 10_000
/** The pause before a restart. The first one is short, because requests to cold zones get 502 meanwhile. */
const PAUSE_MS_MIN = 100
const PAUSE_MS_MAX = 5000
/** How often a start that threw `NotYet` is tried again. */
const WAIT_MS = 1000

/** The operator must correct something before the part can start. It does not count as a failure of the part. */
export class NotYet extends Error {}

interface Supervision {
  /** Starts the part and waits until it is ready. @throws Error if that fails; nothing runs then */
  readonly start: () => Promise<Part>
  readonly say: (text: string) => void
  /** Settles when the launcher stops everything. */
  readonly stopped: Promise<unknown>
  readonly now: () => number
  readonly sleep: (ms: number) => Promise<unknown>
}

/**
 * Restarts a part whenever it ends by itself.
 * @returns why it gave the part up. Does not settle while the part stays up, nor after `stopped` has settled
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
    say(`${part.name} ended by itself: ${why}; restarting it`)
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

/** True if somebody else ended the part, such as an operator or the kernel's out-of-memory killer. The part itself is sound. */
function isOrdered(why: string): boolean {
  return why === 'ended by SIGKILL' || why === 'ended by SIGTERM' || why === 'exit code 0'
}

function pauseMs(failures: number): number {
  return Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** failures)
}
