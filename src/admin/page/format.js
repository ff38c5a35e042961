// Formats numbers and times. Pure.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const tenths = new Intl.NumberFormat('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 })

export function count(value) {
  return whole.format(value)
}

/** `1 zone`, `2,000 zones`. */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`
}

/** Per second, with tenths below 100. */
export function rate(value) {
  if (value === 0) return '0'
  return value < 99.95 ? tenths.format(value) : whole.format(value)
}

export function milliseconds(value) {
  if (value >= 999.5) return `${tenths.format(value / 1000)} s`
  return `${value < 9.95 ? tenths.format(value) : whole.format(value)} ms`
}

/** In one or two units: `42 s`, `12 min`, `3 h 05 min`, `9 d 4 h`. */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, '0')} min`
  return `${Math.floor(hours / 24)} d ${hours % 24} h`
}

/** @param at milliseconds since 1970; the result is in the reader's time zone */
export function timeOfDay(at) {
  return new Date(at).toLocaleTimeString('en-GB')
}
