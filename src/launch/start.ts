import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ConfigError, loadConfig } from '../config/load.ts'
import { runGateway } from './gateway.ts'

const HELP = `Starts Envoy and the processor of this checkout, until Ctrl-C.

usage: npm start -- [--config FILE] [--listen IP:PORT] [--admin IP:PORT] [--reuse-port]

  --config FILE        your zonegate.yaml (default: ZONEGATE_CONFIG, else ./zonegate.yaml, else built-in defaults)
  --listen IP:PORT     where Envoy accepts requests (default: 0.0.0.0:8101)
  --admin IP:PORT      Envoy's admin page (default: 127.0.0.1:9901). It has no password: keep it on loopback
  --reuse-port         share --listen with a running Zonegate, to replace it (docs/operations.md, Upgrade)

zonegate.yaml has the rules: which requests Zonegate accepts, and where they go. Routes, timeouts and retries are in
envoy/routes.yaml, circuit breakers and the connect timeout in envoy/clusters.yaml, the listener in envoy/listener.yaml. All of
these take effect when you save them; envoy/envoy.yaml takes effect at the next start.
To check them all: npm run zonegate -- validate
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
  loadConfig(configPath, process.env) // Reports faults before anything starts.
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
