import { ProcessorClient } from './client.ts'
import { CLIENT_DETAILS, CLIENT_OPTIONS, type Command } from './command.ts'
import { json, plain } from './text.ts'

export const flushCommand: Command = {
  summary: 'drop cached DNS answers, so that nameservers are asked again',
  usage: '[NAME]',
  details: `  NAME             a zone's name; default: all names. The processor asks DNS for it again, at once or for the next request.
                   While nameservers fail, it still uses the old answer
${CLIENT_DETAILS}`,
  example: 'zonegate flush zone12-mail.game.test',
  options: CLIENT_OPTIONS,
  positionalsMax: 1,
  run: async (args, terminal) => {
    const [name] = args.positionals
    const query = name === undefined ? '' : `?${new URLSearchParams({ name })}`
    const reply = await ProcessorClient.of(args, terminal).json<{ flushed: string; names: number }>(
      `/api/flush${query}`,
      'POST',
    )
    terminal.stdout.write(args.flag('json') ? json(reply) : `${flushText(reply)}\n`)
    return 0
  },
}

export function flushText({ flushed, names }: { readonly flushed: string; readonly names: number }): string {
  const nothing = flushed === 'all' ? 'the cache is empty' : `the cache has no answer for ${flushed}`
  return plain(names === 0 ? `nothing to flush: ${nothing}` : `flushed: ${flushed}`)
}
