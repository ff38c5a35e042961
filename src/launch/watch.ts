import { spawn } from 'node:child_process'
import type { Socket } from 'node:net'

/** How long a part may take to end after SIGTERM, before it gets SIGKILL. */
export const STOP_WITHIN_MS = 12_000

/**
 * Ends the process `$1` when standard input closes. The kernel closes it when the launcher ends, in whatever way. This needs a
 * process of its own: Envoy has no option for it, and Node can't call prctl.
 */
const SCRIPT = `read -r _
kill -TERM "$1" 2>/dev/null
left=${STOP_WITHIN_MS / 1000}
while [ "$left" -gt 0 ] && kill -0 "$1" 2>/dev/null; do sleep 1; left=$((left - 1)); done
kill -KILL "$1" 2>/dev/null`

/** The name of this shell in a list of processes. */
const WATCH_NAME = 'zonegate-watch'

/**
 * Makes a process end with this one, even if this one is killed. Without a shell this does nothing, and the next start reports
 * what still runs (`leftovers.ts`).
 * @returns ends the watch. Call it as soon as the process has ended, because another process may get its pid
 */
export function watchOver(pid: number): () => void {
  // `detached` starts a session, so that a signal to the launcher's process group does not end the watch.
  const watch = spawn('/bin/sh', ['-c', SCRIPT, WATCH_NAME, String(pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  watch.once('error', () => undefined)
  watch.stdin.once('error', () => undefined)
  watch.unref()
  ;(watch.stdin as Socket).unref()
  // SIGKILL comes before the input closes, else the shell would end the process.
  return () => void watch.kill('SIGKILL')
}

/** How often a process checks that its parent still runs. */
const PARENT_LOOK_MS = 250
/** scripts/with-node.mjs sets this to its own pid, so that its child ends with it. */
const PARENT_PID = 'ZONEGATE_PARENT_PID'

/** Settles when the scripts/with-node.mjs that started this process has ended. Never settles without one. */
export function untilParentGone(environment: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((resolve) => {
    const parent = Number(environment[PARENT_PID])
    // A different pid was inherited from an ancestor.
    if (process.ppid !== parent) return
    const timer = setInterval(() => {
      if (process.ppid === parent) return
      clearInterval(timer)
      resolve()
    }, PARENT_LOOK_MS)
    timer.unref()
  })
}
