import { execFile } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

// Debian keeps daemons where an ordinary user's PATH doesn't look.
const alsoIn = ['/usr/local/sbin', '/usr/sbin', '/sbin']

/** The path of an installed program, or undefined. */
export function findCommand(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), ...alsoIn]
  return folders.map((folder) => join(folder, name)).find(isExecutable)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

export interface Outcome {
  readonly ok: boolean
  /** stdout and stderr together: programs differ in where they print their version. */
  readonly text: string
}

/** Runs a short command to its end. */
export function runCommand(command: string, args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(command, args, { timeout: 10_000 }, (error, stdout, stderr) => {
      resolve({ ok: error === null, text: `${stdout}${stderr}` })
    })
  })
}

/** The first version number that a program prints about itself. */
export async function versionOf(command: string, ...args: string[]): Promise<string> {
  const { text } = await runCommand(command, args)
  return text.match(/\d+\.\d+(\.\d+)?/)?.[0] ?? 'unknown version'
}
