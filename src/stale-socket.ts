import { statSync, unlinkSync } from 'node:fs'
import { connect } from 'node:net'

/**
 * Removes the socket of a killed processor. Leaves it if somebody answers on it.
 * @returns what is in the way, or null if the path is free now
 */
export async function removeStaleSocket(path: string): Promise<'no socket' | 'another processor' | null> {
  const stats = statSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return null
  if (!stats.isSocket()) return 'no socket'
  if (await answers(path)) return 'another processor'
  unlinkSync(path)
  return null
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
