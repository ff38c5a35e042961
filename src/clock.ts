/** A clock that also counts the time in which the machine is suspended. */
import { uptime } from 'node:os'

/** How often to compare the two clocks. Seldom, because reading the second one takes a system call. */
const COMPARED_EVERY_MS = 1000
/** More than the difference between two readings of the clocks in a row, which can't be simultaneous. */
const SUSPENDED_MS_MIN = 1000

/**
 * A monotonic clock, in milliseconds. `performance.now` is Linux's CLOCK_MONOTONIC, which stops while the machine is suspended,
 * so DNS answers would look fresh afterwards. `os.uptime` goes on (CLOCK_BOOTTIME); the clock reads it once a second, so it
 * notices a suspension within a second. It does not use the wall clock, because setting that would age everything. It can't
 * notice that a hypervisor has stopped the machine.
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

/** The clock of DNS, and of everything that compares times with those of DNS. */
export const now: () => number = clockThroughSuspension(
  () => performance.now(),
  () => uptime() * 1000,
)
