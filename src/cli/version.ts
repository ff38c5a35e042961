import { readBuild } from '../status/version.ts'
import type { Command } from './command.ts'
import { json } from './text.ts'

export const versionCommand: Command = {
  summary: 'print the versions of zonegate, of the Envoy it is tested with, and of Node',
  usage: '',
  details: '  --json           print JSON',
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
