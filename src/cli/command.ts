import type { ParseArgsOptionsConfig } from 'node:util'

/** The command line is wrong. The process exits with code 2. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UsageError'
  }
}

/** What a command may use of the process. */
export interface Terminal {
  readonly environment: NodeJS.ProcessEnv
  readonly stdout: NodeJS.WriteStream
  readonly stderr: Pick<NodeJS.WriteStream, 'write'>
  /** True if the terminal shows colours and the user wants them (no-color.org). */
  readonly colour: boolean
}

/** A command line after parsing. */
export interface Arguments {
  readonly positionals: readonly string[]
  text(option: string): string | undefined
  texts(option: string): readonly string[]
  flag(option: string): boolean
}

export interface Command {
  /** One line for the list of commands. */
  readonly summary: string
  /** What follows the command's name. */
  readonly usage: string
  /** Explains options, arguments and exit codes. */
  readonly details: string
  /** A complete command line. */
  readonly example: string
  readonly options: ParseArgsOptionsConfig
  readonly positionalsMax: number
  /**
   * @returns the exit code; 1 if the answer is no
   * @throws UsageError, ConfigError, or an Error whose message tells the user what to do
   */
  run(args: Arguments, terminal: Terminal): Promise<number>
}

/** For every command that reads the configuration. */
export const CONFIG_OPTION = { config: { type: 'string' } } as const satisfies ParseArgsOptionsConfig
export const CONFIG_DETAILS =
  '  --config FILE    the configuration; default: $ZONEGATE_CONFIG, then ./zonegate.yaml, then the built-in defaults'

/** For every command that asks a running processor. */
export const CLIENT_OPTIONS = {
  ...CONFIG_OPTION,
  server: { type: 'string' },
  json: { type: 'boolean' },
} as const satisfies ParseArgsOptionsConfig
export const CLIENT_DETAILS = `  --server URL     the processor to ask; default: listen.http of the configuration
  --json           print JSON
${CONFIG_DETAILS}`

export function configPath(args: Arguments, { environment }: Terminal): string | undefined {
  return args.text('config') ?? environment['ZONEGATE_CONFIG']
}
