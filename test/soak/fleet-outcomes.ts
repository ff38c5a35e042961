import type { Failure } from '../support/load.ts'

/** An Envoy was killed (-9): what it held goes with it. */
export interface KillWindow {
  readonly atMs: number
  /** The connections that it held: no more requests than that can break off. */
  readonly heldMax: number
  brokenOff: number
}

/** A balancer tells a client within this time that the gateway behind its connection is gone. */
const BREAK_OFF_WITHIN_MS = 500
/** An answer, whatever it says, is none of these: it came from an Envoy that was there. */
const BROKEN_OFF = /socket hang up|ECONNRESET|EPIPE/

/** Failed requests, told apart from those that a killed Envoy took along: so few, so soon, and without an answer. */
export class Outcomes {
  requests = 0
  readonly failures: Failure[] = []
  readonly kills: KillWindow[] = []
  readonly #onFailure: (failure: Failure, kill: KillWindow | undefined) => void

  constructor(onFailure: (failure: Failure, kill: KillWindow | undefined) => void) {
    this.#onFailure = onFailure
  }

  get brokenOff(): number {
    return this.kills.reduce((sum, kill) => sum + kill.brokenOff, 0)
  }

  get brokenOffMax(): number {
    return this.kills.reduce((sum, kill) => sum + kill.heldMax, 0)
  }

  envoyKilled(atMs: number, heldMax: number): void {
    this.kills.push({ atMs, heldMax, brokenOff: 0 })
  }

  failed(failure: Failure): void {
    const kill = this.kills.findLast(
      ({ atMs, heldMax, brokenOff }) =>
        failure.endedMs >= atMs && failure.endedMs <= atMs + BREAK_OFF_WITHIN_MS && brokenOff < heldMax,
    )
    const excused = kill !== undefined && BROKEN_OFF.test(failure.outcome) ? kill : undefined
    if (excused === undefined) this.failures.push(failure)
    else excused.brokenOff += 1
    this.#onFailure(failure, excused)
  }
}
