import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { addressesOf, readFallbackDns, tracingOf } from '../config/envoy-settings.ts'
import { loadConfig } from '../config/load.ts'
import { rulesOf } from '../config/rules.ts'
import {
  ENVOY_FOLDER,
  earlierZonesOfKeys,
  filesOf,
  RUN_FOLDER,
  readEnvoyFiles,
  textAt,
  textBefore,
  writeRendered,
} from '../envoy-files/folder.ts'
import { generate } from '../envoy-files/generated.ts'
import { processorSocketIn, render } from '../envoy-files/render.ts'
import { unifiedDiff } from '../envoy-files/unified-diff.ts'
import { CONFIG_DETAILS, CONFIG_OPTION, type Command, configPath } from './command.ts'

/** Without the same options, --check would report differences that do not exist. */
const SAME_OPTIONS =
  'If you started the gateway with --config, --listen or --admin, give the same here: --config FILE, ZONEGATE_ENVOY_LISTEN, ZONEGATE_ENVOY_ADMIN'

export const renderCommand: Command = {
  summary: 'write the files that Envoy reads (run/*.yaml) from zonegate.yaml and envoy/',
  usage: '[--check]',
  details: `${CONFIG_DETAILS}
  --envoy DIR      your files for Envoy; default: envoy
  --out DIR        where Envoy reads its files; default: run
  --check          write nothing and print what would change

npm start and the processor do this on each save. Use this command where neither runs, or to see the changes with --check.
While a processor runs, only --check works. If you started the gateway with --config, --listen or --admin, give the same
here: otherwise --check reports differences that do not exist. The environment variables ZONEGATE_ENVOY_LISTEN and
ZONEGATE_ENVOY_ADMIN (ADDRESS:PORT) replace the addresses of the listeners callback and admin.
Exit code 0: the files are written; with --check: they are up to date. 1: an error; with --check: they differ.`,
  example: 'zonegate render --check',
  options: {
    ...CONFIG_OPTION,
    envoy: { type: 'string' },
    out: { type: 'string' },
    check: { type: 'boolean' },
  },
  positionalsMax: 0,
  run: async (args, terminal) => {
    const { config, source } = loadConfig(configPath(args, terminal), terminal.environment)
    const folder = args.text('out') ?? RUN_FOLDER
    const rendered = render(
      readEnvoyFiles(args.text('envoy') ?? ENVOY_FOLDER),
      generate(rulesOf(config), readFallbackDns(config, terminal.environment), tracingOf(config)),
      addressesOf(config, terminal.environment),
      earlierZonesOfKeys(folder),
    )
    if (!args.flag('check')) {
      if (await isWrittenByProcessor(folder)) {
        terminal.stderr.write(
          `zonegate: nothing is written, because a running processor writes ${folder}/ on each save; use --check to see what differs\n`,
        )
        return 1
      }
      const written = writeRendered(folder, rendered).map((name) => join(folder, name))
      terminal.stdout.write(
        written.length === 0 ? 'nothing has changed\n' : `written: ${written.join(', ')}\n`,
      )
      return 0
    }
    const differences = filesOf(rendered).map(([name, text]) => {
      const path = join(folder, name)
      return unifiedDiff(textAt(path) ?? '', text, {
        before: path,
        after: `${path}, rendered`,
      })
    })
    terminal.stdout.write(differences.join(''))
    if (differences.every((difference) => difference === '')) return 0
    terminal.stderr.write(`zonegate: note: compared with ${source}. ${SAME_OPTIONS}\n`)
    return 1
  },
}

/**
 * True if a processor is running. The gateway may have been started with other options: files rendered without them would make
 * the running Envoy listen elsewhere, with other rules.
 */
async function isWrittenByProcessor(folder: string): Promise<boolean> {
  const before = textBefore(folder, 'bootstrap')
  const path = before === undefined ? undefined : processorSocketOf(before)
  if (path === undefined) return false
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** Also undefined if the file is not YAML: then it may be overwritten. */
function processorSocketOf(rendered: string): string | undefined {
  try {
    return processorSocketIn(rendered)
  } catch {
    return undefined
  }
}
