import { parseArgs } from 'node:util'
import { healthcheck } from './cli/healthcheck.ts'
import { serve } from './cli/serve.ts'
import { ConfigError } from './config/load.ts'

const HELP = `zonegate: one callback URL in front of many zones

usage: node src/main.ts [serve] [--config FILE]        the processor that Envoy asks
       node src/main.ts healthcheck [--config FILE]    exit 0 if the processor is ready, else 1

  --config FILE   configuration; else ZONEGATE_CONFIG, else ./zonegate.yaml where there is one, else the defaults
  --help          this text

example: node src/main.ts serve --config /etc/zonegate.yaml
`

const COMMANDS: Readonly<Record<string, (configPath: string | undefined) => Promise<void>>> = {
  serve: (configPath) => serve({ configPath, environment: process.env }),
  healthcheck,
}

/** The composition root: what the command line and the environment say becomes arguments here. */
async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { config: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    allowPositionals: true,
  })
  if (values.help) {
    process.stdout.write(HELP)
    return
  }
  const [name = 'serve', ...rest] = positionals
  const command = COMMANDS[name]
  if (command === undefined || rest.length > 0)
    throw new Error(`no command "${positionals.join(' ')}"; --help lists them`)
  await command(values.config ?? process.env['ZONEGATE_CONFIG'])
}

main().catch((error: unknown) => {
  const lines = error instanceof ConfigError ? error.faults : [(error as Error).message]
  for (const line of lines) process.stderr.write(`zonegate: ${line}\n`)
  process.exit(1)
})
