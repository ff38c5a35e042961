import type { Duration } from './messages.ts'

/** google.protobuf.Duration of whole milliseconds, 0 or more. */
export function durationOf(milliseconds: number): { seconds: number; nanos: number } {
  const whole = Math.trunc(milliseconds)
  return { seconds: Math.trunc(whole / 1000), nanos: (whole % 1000) * 1_000_000 }
}

export function millisecondsOf({ seconds = 0, nanos = 0 }: Duration): number {
  return Number(seconds) * 1000 + nanos / 1_000_000
}
