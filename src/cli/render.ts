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

/** Without them a running gateway's files seem to differ. */
const SAME_OPTIONS =
  'A gateway that was started with --config, --listen or --admin needs the same here: --config FILE, ZONEGATE_ENVOY_LISTEN, ZONEGATE_ENVOY_ADMIN'

export const renderCommand: Command = {
  summary: 'writes the files that Envoy reads (run/*.yaml), from zonegate.yaml and your files in envoy/',
  usage: '[--check]',
  details: `${CONFIG_DETAILS}
  --envoy DIR      your files for Envoy (envoy)
  --out DIR        where Envoy reads its files (run)
  --check          writes nothing, and prints what would change

npm start and the processor run this by themselves, on each save. Run it where they do not, or to look with --check.
Beside a running processor it writes nothing. If its gateway was started with --config, --listen or --admin, give --check
the same: otherwise it shows differences that are none. The environment variables ZONEGATE_ENVOY_LISTEN and
ZONEGATE_ENVOY_ADMIN (ADDRESS:PORT) replace the addresses of the listeners callback and admin.
Exit 0: the files are written, or with --check they are up to date. Exit 1: they can't be made, or with --check they differ.`,
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
          `zonegate: a processor is running and writes ${folder}/ itself on each save, so nothing is written; --check shows what differs\n`,
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
 * Its gateway may have been started with other options. What is made without them would have the running Envoy listen
 * elsewhere, and by other rules.
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

/** Undefined also for what is no YAML: it is about to be written anew. */
function processorSocketOf(rendered: string): string | undefined {
  try {
    return processorSocketIn(rendered)
  } catch {
    return undefined
  }
}
