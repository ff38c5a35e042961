// A rate over the last minutes as a small drawing: its shape is what it tells, the number stands beside it.

import { svgElement } from './dom.js'

/** The drawing's own units: CSS stretches it. */
const WIDTH = 100
const HEIGHT = 24
/** Below this peak, in requests a second, the drawing is not blown up to its full height. */
const PEAK_MIN = 1

export function createSparkline() {
  const area = svgElement('path', { fill: 'currentColor', 'fill-opacity': '0.12' })
  const line = svgElement('path', {
    class: 'line',
    fill: 'none',
    stroke: 'currentColor',
    'stroke-width': '1.25',
    'vector-effect': 'non-scaling-stroke',
  })
  const drawing = svgElement(
    'svg',
    {
      class: 'sparkline',
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: 'none',
      width: '100%',
      height: '1.5em',
      'aria-hidden': 'true',
    },
    area,
    line,
  )
  let shown = null
  return {
    element: drawing,
    /** @param {readonly number[]} history oldest first */
    show(history) {
      if (history === shown) return
      shown = history
      const path = linePath(history)
      line.setAttribute('d', path)
      area.setAttribute('d', path === '' ? '' : `${path}V${HEIGHT}H0Z`)
    },
  }
}

/** Empty where there was nothing. From zero up, with a little air above the peak. */
function linePath(history) {
  let peak = 0
  for (const value of history) if (value > peak) peak = value
  if (peak === 0) return ''
  peak = Math.max(peak * 1.1, PEAK_MIN)
  const step = WIDTH / Math.max(1, history.length - 1)
  let path = ''
  for (let at = 0; at < history.length; at++) {
    const y = HEIGHT - 1 - (history[at] / peak) * (HEIGHT - 1)
    path += `${at === 0 ? 'M' : 'L'}${(at * step).toFixed(1)} ${y.toFixed(1)}`
  }
  return path
}
