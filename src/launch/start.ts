import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ConfigError, loadConfig } from '../config/load.ts'
import { runGateway } from './gateway.ts'

const HELP = `Starts Envoy and the processor of this checkout, until Ctrl-C.

usage: npm start [-- --config FILE] [-- --listen HOST:PORT] [-- --admin HOST:PORT] [-- --reuse-port]

  --config FILE        configuration of the processor; else ZONEGATE_CONFIG, else ./zonegate.yaml, else the defaults
  --listen HOST:PORT   where Envoy takes requests (0.0.0.0:8101)
  --admin HOST:PORT    Envoy's admin page (127.0.0.1:9901); whoever reaches it rules Envoy
  --reuse-port         share --listen with the Zonegate that runs there, to take its place; docs/operations.md, Upgrade

Routes, timeouts and retries: envoy/routes.yaml. Breakers and connect timeout: envoy/envoy.yaml.
`

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      config: { type: 'string' },
      listen: { type: 'string', default: '0.0.0.0:8101' },
      admin: { type: 'string', default: '127.0.0.1:9901' },
      'reuse-port': { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    process.stdout.write(HELP)
    return
  }
  const configPath = values.config ?? process.env['ZONEGATE_CONFIG']
  loadConfig(configPath, process.env) // faults are told before anything starts
  process.exitCode = await runGateway({
    root: fileURLToPath(new URL('../..', import.meta.url)),
    configPath,
    listen: values.listen,
    admin: values.admin,
    reusePort: values['reuse-port'],
    onReady: () =>
      process.stderr.write(`zonegate: ready on ${values.listen}, Envoy's admin page on ${values.admin}\n`),
  })
}

main().catch((error: unknown) => {
  for (const line of error instanceof ConfigError ? error.faults : [(error as Error).message])
    process.stderr.write(`zonegate: ${line}\n`)
  process.exit(1)
})
