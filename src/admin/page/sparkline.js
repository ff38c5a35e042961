// Draws a rate over the last minutes. The number stands beside the drawing.

import { svgElement } from './dom.js'

/** In units of the drawing, which CSS stretches. */
const WIDTH = 100
const HEIGHT = 24
/** Requests per second. A lower peak does not fill the whole height. */
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

/** Empty if there were no requests. Starts at zero, with a little space above the peak. */
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
