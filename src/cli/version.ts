import { readBuild } from '../status/version.ts'
import type { Command } from './command.ts'
import { json } from './text.ts'

export const versionCommand: Command = {
  summary: 'versions of this program, of the Envoy that it is made for, and of Node',
  usage: '',
  details: '  --json           for programs',
  example: 'zonegate version --json',
  options: { json: { type: 'boolean' } },
  positionalsMax: 0,
  run: async (args, { stdout }) => {
    const build = { ...readBuild(), node: process.version }
    const { version, commit, envoy, node } = build
    stdout.write(
      args.flag('json') ? json(build) : `zonegate ${version} (${commit}) for Envoy ${envoy}, Node ${node}\n`,
    )
    return 0
  },
}
