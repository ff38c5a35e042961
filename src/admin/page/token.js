// Requests to the processor's API. If it needs a token, the page asks for it once, and this tab keeps it.

import { byId } from './dom.js'

const KEY = 'zonegate-token'
/** The open dialog: further requests that get a 401 wait for its answer. */
let asking = null

/**
 * A fetch with the token. A 401 opens the dialog, and the request is sent again.
 * @param {string} path relative to the page
 * @param {RequestInit} options
 */
export async function api(path, options = {}) {
  for (;;) {
    const token = read()
    const headers = token === null ? {} : { authorization: `Bearer ${token}` }
    const response = await fetch(path, { ...options, headers, cache: 'no-store' })
    if (response.status !== 401) return response
    await response.body?.cancel()
    // A new token was entered after this request was sent.
    if (read() !== token) continue
    asking ??= ask(token !== null).finally(() => {
      asking = null
    })
    await asking
  }
}

/** Opens the dialog and resolves when a token is entered. The dialog cannot be closed: without a token the page is empty. */
function ask(refused) {
  const dialog = byId('token')
  const form = dialog.querySelector('form')
  const wrong = dialog.querySelector('.wrong')
  form.reset()
  dialog.showModal()
  // After showModal, so that screen readers speak it.
  wrong.textContent = refused ? 'The processor does not accept this token.' : ''
  return new Promise((resolve) => {
    const keep = (event) => event.preventDefault()
    dialog.addEventListener('cancel', keep)
    form.addEventListener(
      'submit',
      (event) => {
        event.preventDefault()
        write(new FormData(form).get('token'))
        dialog.removeEventListener('cancel', keep)
        dialog.close()
        resolve()
      },
      { once: true },
    )
  })
}

/** The token of this page if the browser allows no storage. */
let kept = null

function read() {
  try {
    return sessionStorage.getItem(KEY) ?? kept
  } catch {
    return kept
  }
}

function write(token) {
  kept = token
  try {
    sessionStorage.setItem(KEY, token)
  } catch {}
}
