/** google.protobuf.Duration of whole milliseconds, 0 or more. */
export function durationOf(milliseconds: number): { seconds: number; nanos: number } {
  const whole = Math.trunc(milliseconds)
  return { seconds: Math.trunc(whole / 1000), nanos: (whole % 1000) * 1_000_000 }
}
