import { ProcessorClient } from './client.ts'
import { CLIENT_DETAILS, CLIENT_OPTIONS, type Command } from './command.ts'
import { json } from './text.ts'

export const healthcheckCommand: Command = {
  summary: 'exit with 0 if the processor is ready, else with 1',
  usage: '',
  details: CLIENT_DETAILS,
  example: 'zonegate healthcheck && echo ready',
  options: CLIENT_OPTIONS,
  positionalsMax: 0,
  run: async (args, terminal) => {
    const { status, body } = await ProcessorClient.of(args, terminal).health()
    if (args.flag('json')) terminal.stdout.write(json(JSON.parse(body)))
    if (status === 200) return 0
    throw new Error(`not ready: ${body.trim()}`)
  },
}
