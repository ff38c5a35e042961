import { spawn } from 'node:child_process'
import type { Socket } from 'node:net'

/** How long a part may take to end once it was told so, before it is killed. */
export const STOP_WITHIN_MS = 12_000

/**
 * Ends the process whose pid is `$1` when standard input closes. The system closes it when the launcher is gone, whichever
 * way that ended. A shell, because a part itself may have no such switch (Envoy has none) and Node has no prctl.
 */
const SCRIPT = `read -r _
kill -TERM "$1" 2>/dev/null
left=${STOP_WITHIN_MS / 1000}
while [ "$left" -gt 0 ] && kill -0 "$1" 2>/dev/null; do sleep 1; left=$((left - 1)); done
kill -KILL "$1" 2>/dev/null`

/** What a part's watch is called in a list of processes. */
export const WATCH_NAME = 'zonegate-watch'

/**
 * Has a process end with this one, even if this one is killed. Without a shell nothing watches; the next start then tells
 * what is left (`leftovers.ts`).
 * @returns ends the watch. To be called as soon as the process is gone: its pid may soon be another's
 */
export function watchOver(pid: number): () => void {
  // In a session of its own: what kills the launcher's process group must not kill the watch with it.
  const watch = spawn('/bin/sh', ['-c', SCRIPT, WATCH_NAME, String(pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  watch.once('error', () => undefined)
  watch.stdin.once('error', () => undefined)
  watch.unref()
  ;(watch.stdin as Socket).unref()
  // Killed before its input closes, or it would end the process.
  return () => void watch.kill('SIGKILL')
}

/** How often a process looks whether its parent is still there. */
const PARENT_LOOK_MS = 250
/** Set by scripts/with-node.mjs to its own pid: who is started by it ends with it. */
export const PARENT_PID = 'ZONEGATE_PARENT_PID'

/** Settles when the process that started this one by scripts/with-node.mjs is gone; never where there is none. */
export function untilParentGone(environment: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((resolve) => {
    const parent = Number(environment[PARENT_PID])
    // Of another one, further up: inherited.
    if (process.ppid !== parent) return
    const timer = setInterval(() => {
      if (process.ppid === parent) return
      clearInterval(timer)
      resolve()
    }, PARENT_LOOK_MS)
    timer.unref()
  })
}
