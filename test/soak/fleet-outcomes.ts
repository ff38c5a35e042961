import type { Failure } from '../support/load.ts'

/** A kill (-9) of an Envoy, which loses its open connections. */
export interface KillWindow {
  readonly atMs: number
  /** How many connections it had: at most this many requests may break off. */
  readonly heldMax: number
  brokenOff: number
}

/** Within this time the balancer closes the clients' connections to a gateway that has ended. */
const BREAK_OFF_WITHIN_MS = 500
/** Errors without an answer. Any answer came from an Envoy that was alive. */
const BROKEN_OFF = /socket hang up|ECONNRESET|EPIPE/

/**
 * Separates failures from requests that broke off with a killed Envoy: those without an answer, soon after the kill, and
 * not more than the Envoy had connections.
 */
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
