import { UsageError } from './command.ts'

const CLOCK = /^(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?$/
const AGO = /^(\d+)\s*(s|min|m|h|d)$/
const UNIT_MS: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}
const DAY_MS = 86_400_000
export const MOMENT_DETAILS =
  'TIME is a time of day in local time, the latest one in the past (02:12, 02:12:30); how long ago (10m, 2h, 3d); or a date (2026-11-29T02:12, add Z for UTC)'

/**
 * Parses a moment as operators write it.
 * @param nowMs since 1970
 * @returns milliseconds since 1970
 * @throws UsageError
 */
export function momentOf(option: string, text: string, nowMs: number): number {
  const ago = AGO.exec(text)
  if (ago !== null) return nowMs - Number(ago[1]) * (UNIT_MS[ago[2] ?? ''] ?? 0)
  const clock = CLOCK.exec(text)
  const moment = clock === null ? Date.parse(text) : lastTimeOfDay(clock, nowMs)
  if (Number.isNaN(moment) || (clock === null && !/^\d{4}-/.test(text)))
    throw new UsageError(`--${option}: expected a time, got "${text}". ${MOMENT_DETAILS}`)
  return moment
}

/** Today at that time, or yesterday if that is still to come. */
function lastTimeOfDay(
  [, hours, minutes, seconds = '0', fraction = '0']: RegExpExecArray,
  nowMs: number,
): number {
  const day = new Date(nowMs)
  const [h, m, s] = [Number(hours), Number(minutes), Number(seconds)]
  if (h > 23 || m > 59 || s > 59) return Number.NaN
  const at = (on: Date): number =>
    new Date(
      on.getFullYear(),
      on.getMonth(),
      on.getDate(),
      h,
      m,
      s,
      Number(fraction.padEnd(3, '0')),
    ).getTime()
  const today = at(day)
  return today <= nowMs ? today : at(new Date(nowMs - DAY_MS))
}

/** `2026-11-29 02:12:03.123`, in local time. */
export function localTime(ms: number): string {
  const date = new Date(ms)
  const two = (value: number, digits = 2): string => String(value).padStart(digits, '0')
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${two(date.getMilliseconds(), 3)}`
}
