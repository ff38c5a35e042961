/** Time that passes while the machine sleeps, too. */
import { uptime } from 'node:os'

/** How often the two clocks are compared: reading the second one costs a system call. */
const COMPARED_EVERY_MS = 1000
/** More than two readings of the two clocks, one after the other, ever differ by. */
const SUSPENDED_MS_MIN = 1000

/**
 * A clock that only moves forwards, in milliseconds. `performance.now` is Linux's CLOCK_MONOTONIC, which stands still while
 * a machine is suspended: what was learned before would be as fresh afterwards as it was. `os.uptime` goes on
 * (CLOCK_BOOTTIME); it is read once a second of use, so a suspension shows a second after it at the latest. The wall clock
 * isn't asked, since whoever sets it would age everything. A machine that its hypervisor stopped knows nothing of that.
 */
export function clockThroughSuspension(monotonicMs: () => number, uptimeMs: () => number): () => number {
  let comparedAtMs = monotonicMs()
  let suspendedMs = 0
  const offMs = (): number => uptimeMs() - monotonicMs() - suspendedMs
  const offAtStartMs = offMs()
  return () => {
    const nowMs = monotonicMs()
    if (nowMs - comparedAtMs >= COMPARED_EVERY_MS) {
      comparedAtMs = nowMs
      const sinceMs = offMs() - offAtStartMs
      if (sinceMs >= SUSPENDED_MS_MIN) suspendedMs += sinceMs
    }
    return nowMs + suspendedMs
  }
}

/** The clock of DNS and of all that compares times with what DNS says. */
export const now: () => number = clockThroughSuspension(
  () => performance.now(),
  () => uptime() * 1000,
)
