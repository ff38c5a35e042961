import { readVersion } from '../status/version.ts'
import type { Command } from './command.ts'
import { json } from './text.ts'

export const versionCommand: Command = {
  summary: 'the version of this program',
  usage: '',
  details: '  --json           for programs',
  example: 'zonegate version --json',
  options: { json: { type: 'boolean' } },
  positionalsMax: 0,
  run: async (args, { stdout }) => {
    const version = readVersion()
    stdout.write(args.flag('json') ? json({ version, node: process.version }) : `zonegate ${version}\n`)
    return 0
  },
}
