// Creates elements. Text stays text: no part of this page makes markup from a string.

const SVG = 'http://www.w3.org/2000/svg'

/**
 * @param {string} name
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} children
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  made.append(...children)
  return made
}

export function svgElement(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  made.append(...children)
  return made
}

/**
 * Shapes beside words, so that colour is never the only sign. They are paths, not a sprite with `use`: each `use` has its
 * own shadow tree, which is slow in a table of many rows.
 */
const DISC = 'M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11z'
const SHAPES = {
  hot: { solid: true, d: DISC },
  learned: { solid: true, d: `${DISC}M8 4a4 4 0 0 1 0 8z` },
  cold: { solid: true, d: `${DISC}M8 4a4 4 0 1 0 0 8a4 4 0 1 0 0-8z` },
  ok: { d: 'm3 8.5 3.3 3.3L13 4.8' },
  warn: { d: 'M8 2.3 14.3 13.2H1.7zM8 6.5v3M8 11.3v.1' },
  bad: { d: 'm4 4 8 8M12 4l-8 8' },
}

export function shape(name) {
  const size = { viewBox: '0 0 16 16', width: '1em', height: '1em' }
  const line = { 'stroke-width': '1.7', 'stroke-linecap': 'round', 'stroke-linejoin': 'round' }
  const path = svgElement('path', { 'fill-rule': 'evenodd', ...line })
  const made = svgElement('svg', { class: 'shape', 'aria-hidden': 'true', ...size }, path)
  setShape(made, name)
  return made
}

export function setShape(made, name) {
  const { d, solid = false } = SHAPES[name]
  setAttribute(made, solid ? 'fill' : 'stroke', 'currentColor')
  setAttribute(made, solid ? 'stroke' : 'fill', 'none')
  setAttribute(made.firstChild, 'd', d)
}

export function byId(id) {
  return document.getElementById(id)
}

/** Sets a text only if it differs, so that unchanged text costs no layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text
}

/** Sets an attribute only if it differs; null removes it. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name)
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value)
}

/**
 * Makes `wanted` the children of a parent with as few moves as possible. The child that has the focus is never moved,
 * because it would lose the focus.
 */
export function arrange(parent, wanted) {
  const focused = wanted.find((child) => child.contains(document.activeElement))
  let cursor = parent.firstChild
  for (const child of wanted) {
    if (child === cursor) cursor = cursor.nextSibling
    else if (child === focused) {
      while (cursor !== child) {
        const next = cursor.nextSibling
        parent.append(cursor)
        cursor = next
      }
      cursor = child.nextSibling
    } else parent.insertBefore(child, cursor)
  }
  while (cursor !== null) {
    const next = cursor.nextSibling
    cursor.remove()
    cursor = next
  }
}
