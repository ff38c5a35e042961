#!/usr/bin/env node
import { parseArgs } from 'node:util'
import type { Terminal } from './cli/command.ts'
import {
  type Arguments,
  CONFIG_DETAILS,
  CONFIG_OPTION,
  type Command,
  configPath,
  UsageError,
} from './cli/command.ts'
import { ConfigError } from './config/faults.ts'

const serveCommand: Command = {
  summary: 'run the processor that Envoy asks',
  usage: '',
  details: `${CONFIG_DETAILS}

The processor reads its configuration again when the file changes, and on SIGHUP. On SIGTERM it finishes the requests in
progress, then exits.`,
  example: 'zonegate serve --config /etc/zonegate.yaml',
  options: CONFIG_OPTION,
  positionalsMax: 0,
  run: async (args, terminal) => {
    const { serve } = await import('./processor/serve.ts')
    await serve({ configPath: configPath(args, terminal), environment: terminal.environment })
    return UNTIL_SIGNALLED
  },
}

/** `serve` returns at once. It exits the process itself when it gets a signal. */
const UNTIL_SIGNALLED = -1

/** Each file is loaded only when its command runs: a health check runs every few seconds and must start fast. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  serve: async () => serveCommand,
  validate: async () => (await import('./cli/validate.ts')).validateCommand,
  diff: async () => (await import('./cli/diff.ts')).diffCommand,
  render: async () => (await import('./cli/render.ts')).renderCommand,
  explain: async () => (await import('./cli/explain.ts')).explainCommand,
  history: async () => (await import('./cli/history.ts')).historyCommand,
  status: async () => (await import('./cli/status.ts')).statusCommand,
  flush: async () => (await import('./cli/flush.ts')).flushCommand,
  pin: async () => (await import('./cli/pin.ts')).pinCommand,
  unpin: async () => (await import('./cli/pin.ts')).unpinCommand,
  pins: async () => (await import('./cli/pin.ts')).pinsCommand,
  healthcheck: async () => (await import('./cli/healthcheck.ts')).healthcheckCommand,
  version: async () => (await import('./cli/version.ts')).versionCommand,
}

const EXIT_FAILED = 1
const EXIT_USAGE = 2

/** The same as `engines` in package.json. npm only warns about an older Node. */
const NODE_MAJOR_LEAST = 24

/** Turns the command line and the environment into arguments. */
async function main(): Promise<number> {
  if (Number.parseInt(process.versions.node, 10) < NODE_MAJOR_LEAST)
    throw new Error(`zonegate needs Node ${NODE_MAJOR_LEAST} or newer, but this is ${process.versions.node}`)
  const terminal: Terminal = {
    environment: process.env,
    stdout: process.stdout,
    stderr: process.stderr,
    colour: process.stdout.isTTY === true && (process.env['NO_COLOR'] ?? '') === '',
  }
  const [first = 'serve', ...rest] = process.argv.slice(2)
  // Without a command, the options are those of `serve`.
  const [name, line] = first.startsWith('-') ? ['serve', [first, ...rest]] : [first, rest]
  if (['--help', '-h', 'help'].includes(first)) {
    process.stdout.write(await help())
    return 0
  }
  const command = await COMMANDS[first === '--version' ? 'version' : name]?.()
  if (command === undefined)
    throw new UsageError(`there is no command "${name}"; "zonegate --help" lists all commands`)
  const { values, positionals } = parse(name, command, first === '--version' ? [] : line)
  if (values['help'] === true) {
    process.stdout.write(helpOf(name, command))
    return 0
  }
  return command.run(argumentsOf(values, positionals), terminal)
}

type Values = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>

function parse(
  name: string,
  { options, positionalsMax }: Command,
  args: readonly string[],
): { values: Values; positionals: string[] } {
  const help = `"zonegate ${name} --help" lists the options`
  let parsed: { values: Values; positionals: string[] }
  try {
    parsed = parseArgs({
      args: [...args],
      options: { ...options, help: { type: 'boolean', short: 'h' } },
      allowPositionals: true,
    })
  } catch (error) {
    const [message = ''] = (error as Error).message.split(/\. |\n/)
    throw new UsageError(`${message}; ${help}`)
  }
  const extra = parsed.positionals[positionalsMax]
  if (extra !== undefined) throw new UsageError(`unexpected "${extra}"; ${help}`)
  return parsed
}

function argumentsOf(values: Values, positionals: readonly string[]): Arguments {
  return {
    positionals,
    text: (option) => values[option] as string | undefined,
    texts: (option) => (values[option] ?? []) as string[],
    flag: (option) => values[option] === true,
  }
}

function helpOf(name: string, { summary, usage, details, example }: Command): string {
  const line = ['zonegate', name, usage].filter(Boolean).join(' ')
  return `zonegate ${name}: ${summary}\n\nusage: ${line}\n\n${details}\n\nexample: ${example}\n`
}

async function help(): Promise<string> {
  const lines: string[] = []
  for (const [name, load] of Object.entries(COMMANDS))
    lines.push(`  ${name.padEnd(12)} ${(await load()).summary}`)
  return `zonegate: one callback URL in front of many zones

usage: zonegate [COMMAND] [OPTION...]

${lines.join('\n')}

Without a command, zonegate runs serve. "zonegate COMMAND --help" explains a command.
Exit code 0: success, or yes. 1: failure, or no. 2: wrong command line. diff has its own exit codes.
Set NO_COLOR to switch colours off.

example: zonegate explain --id 12 --path /mail
`
}

main().then(
  (code) => {
    // `process.exit` would lose output that is still on its way into a pipe.
    if (code !== UNTIL_SIGNALLED) process.exitCode = code
  },
  (error: unknown) => {
    const lines = error instanceof ConfigError ? error.faults : (error as Error).message.split('\n')
    for (const line of lines) process.stderr.write(`zonegate: ${line}\n`)
    process.exit(error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED)
  },
)
