import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse, stringify } from 'yaml'
import { renderEnvoyConfig } from '../../src/launch/envoy-config.ts'
import { freePort } from '../ports.ts'
import { untilListening } from '../processes.ts'
import { receiverNetwork, searchDomain } from '../zones.ts'
import { envoyInstalled, runEnvoy, startWithinMs } from './envoy.ts'
import type { Installed, Running, Setting, System } from './system.ts'

/** Zonegate as it ships, but for the access log (off everywhere) and request ids (alike everywhere). */

/** Every request is asked about: Envoy, the processor and the dynamic forward proxy. */
export const zonegateCold: System = {
  name: 'zonegate-cold',
  title: 'Zonegate, cold path',
  routesByZone: true,
  installed,
  start: startZonegate,
}

const root = fileURLToPath(new URL('../..', import.meta.url))

async function installed(): Promise<Installed> {
  const envoy = await envoyInstalled()
  if ('missing' in envoy) return envoy
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  return { version: `Zonegate ${version} on ${envoy.version} and Node ${process.versions.node}` }
}

async function startZonegate(setting: Setting): Promise<Running> {
  const { processes, nameserver } = setting
  const [port, adminPort, httpPort] = [await freePort(), await freePort(), await freePort()]
  cpSync(join(root, 'envoy'), join(processes.scratch, 'envoy'), { recursive: true })

  const config = join(processes.scratch, 'zonegate.yaml')
  const own = {
    listen: { http: `127.0.0.1:${httpPort}` },
    dns: { nameservers: [`${nameserver.address}:${nameserver.port}`], search: searchDomain },
    addresses: { allow: [receiverNetwork] },
  }
  writeFileSync(config, stringify(own))
  const main = join(root, 'src/main.ts')
  const node = ['--disable-warning=ExperimentalWarning', main, 'serve', '--config', config]
  const processor = await processes.start('processor', process.execPath, node)
  await untilListening(processor, '127.0.0.1', httpPort)

  const text = withoutExtras(readFileSync(join(root, 'envoy/envoy.yaml'), 'utf8'), setting.requestIds)
  const addresses = {
    listen: { host: '127.0.0.1', port },
    admin: { host: '127.0.0.1', port: adminPort },
    processor: 'unix:run/processor.sock',
  }
  const envoy = await runEnvoy(setting, renderEnvoyConfig(text, addresses))
  await untilListening(envoy, '127.0.0.1', port, startWithinMs)
  return { port, children: [envoy, processor] }
}

/** Envoy's file without what no other system of the comparison does. */
function withoutExtras(text: string, requestIds: boolean): string {
  const config = parse(text)
  const listener = config.static_resources.listeners.find(({ name }: { name: string }) => name === 'callback')
  const connectionManager = listener.filter_chains[0].filters[0].typed_config
  delete connectionManager.access_log
  connectionManager.generate_request_id = requestIds
  return stringify(config)
}
