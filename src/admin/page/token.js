// Requests to the processor's API. Where it wants a token the page asks for it once, and this tab keeps it.

import { byId } from './dom.js'

const KEY = 'zonegate-token'
/** The question that is open; whoever else meets a 401 meanwhile waits for the same answer. */
let asking = null

/**
 * A fetch that carries the token, and asks for one where the server says 401.
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
    // Somebody else has answered the question since this request was sent.
    if (read() !== token) continue
    asking ??= ask(token !== null).finally(() => {
      asking = null
    })
    await asking
  }
}

/** Opens the dialog; settles when a token was entered. It can't be left without: there is nothing to see behind it. */
function ask(refused) {
  const dialog = byId('token')
  const form = dialog.querySelector('form')
  const wrong = dialog.querySelector('.wrong')
  form.reset()
  dialog.showModal()
  // After it is shown, so that it is spoken.
  wrong.textContent = refused ? 'That token was not accepted. Is it the one of this processor?' : ''
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

/** Where storage is switched off, the token lives as long as the page. */
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
