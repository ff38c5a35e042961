import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ConfigError, loadConfig } from '../config/load.ts'
import { runGateway } from './gateway.ts'

const HELP = `Starts Envoy and the processor of this checkout, until Ctrl-C.

usage: npm start -- [--config FILE] [--listen IP:PORT] [--admin IP:PORT] [--reuse-port]

  --config FILE        your zonegate.yaml; else ZONEGATE_CONFIG, else ./zonegate.yaml, else the defaults
  --listen IP:PORT     where Envoy takes requests (0.0.0.0:8101)
  --admin IP:PORT      Envoy's admin page (127.0.0.1:9901). It has no password: keep it on loopback
  --reuse-port         take over --listen from the Zonegate that runs there; docs/operations.md, Upgrade

zonegate.yaml has the rules: what a request is, and where it goes. Routes, timeouts and retries are in envoy/routes.yaml,
breakers and the connect timeout in envoy/clusters.yaml, the listener in envoy/listener.yaml. All of them are live on save;
envoy/envoy.yaml waits for the next start. Is it all right? npm run zonegate -- validate
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
  await runGateway({
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
