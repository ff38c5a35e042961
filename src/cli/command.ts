import type { ParseArgsOptionsConfig } from 'node:util'

/** A wrong command line: exit 2. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UsageError'
  }
}

/** What a command may use of its surroundings. */
export interface Terminal {
  readonly environment: NodeJS.ProcessEnv
  readonly stdout: NodeJS.WriteStream
  readonly stderr: Pick<NodeJS.WriteStream, 'write'>
  /** Escape sequences are understood, and wanted (no-color.org). */
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
  /** A line of the list of commands. */
  readonly summary: string
  /** What follows the command's name. */
  readonly usage: string
  /** Lines that say what options and arguments do. */
  readonly details: string
  /** A command line that works. */
  readonly example: string
  readonly options: ParseArgsOptionsConfig
  readonly positionalsMax: number
  /**
   * @returns the exit code: 0, or 1 where what was asked for is not so
   * @throws UsageError, ConfigError, or an Error whose message says what to do
   */
  run(args: Arguments, terminal: Terminal): Promise<number>
}

/** `--config FILE` of every command that reads the configuration. */
export const CONFIG_OPTION = { config: { type: 'string' } } as const satisfies ParseArgsOptionsConfig
export const CONFIG_DETAILS =
  '  --config FILE    configuration; else ZONEGATE_CONFIG, else ./zonegate.yaml where there is one, else the defaults'

/** Options of every command that asks a running processor. */
export const CLIENT_OPTIONS = {
  ...CONFIG_OPTION,
  server: { type: 'string' },
  json: { type: 'boolean' },
} as const satisfies ParseArgsOptionsConfig
export const CLIENT_DETAILS = `  --server URL     of the processor to ask; else listen.http of the configuration
  --json           for programs
${CONFIG_DETAILS}`

export function configPath(args: Arguments, { environment }: Terminal): string | undefined {
  return args.text('config') ?? environment['ZONEGATE_CONFIG']
}
