// Elements from values. Text stays text: nothing here, or anywhere on this page, makes markup out of a string.

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

/** One of the page's shapes (see page.html): beside a word that says the same. */
export function shape(name) {
  const use = svgElement('use')
  use.setAttribute('href', `#${name}`)
  return svgElement('svg', { class: 'shape', 'aria-hidden': 'true' }, use)
}

export function byId(id) {
  return document.getElementById(id)
}

/** Sets text only where it differs, so that what is unchanged costs no layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text
}

/** Sets an attribute only where it differs; null removes it. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name)
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value)
}

/**
 * Brings a parent's children in line with a list by moving, making and removing as few as possible. The child that has
 * the focus is never moved, because that would take the focus away.
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
