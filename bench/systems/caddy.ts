import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../test/support/ports.ts'
import { findCommand, installedProgram, untilListening } from '../processes.ts'
import { receiverPort, searchDomain } from '../zones.ts'
import type { System } from './system.ts'

/** Caddy 2: `dynamic a` resolves a name that placeholders build. A worker is a CPU for Go's scheduler (GOMAXPROCS). */
export const caddy: System = {
  name: 'caddy',
  title: 'Caddy, dynamic a',
  routesByZone: true,
  installed: () => installedProgram('Caddy', 'caddy', 'version'),
  async start({ processes, workers, nameservers, ttlSeconds }) {
    const port = await freePort()
    const config = join(processes.scratch, 'Caddyfile')
    writeFileSync(
      config,
      `
{
	admin off
	auto_https off
}
http://127.0.0.1:${port} {
	bind 127.0.0.1
	@refused not method POST
	respond @refused 405
	@anonymous not header server *
	respond @anonymous 403
	map {path} {service} {
		/mail mail
		default default
	}
	reverse_proxy {
		dynamic a {
			name zone{header.server}-{service}.${searchDomain}
			port ${receiverPort}
			refresh ${ttlSeconds}s
			resolvers ${nameservers.map(({ address, port }) => `${address}:${port}`).join(' ')}
		}
	}
}
`,
    )
    const args = ['run', '--adapter', 'caddyfile', '--config', config]
    const env = { GOMAXPROCS: String(workers), HOME: processes.scratch, XDG_DATA_HOME: processes.scratch }
    const child = await processes.start('caddy', findCommand('caddy') ?? 'caddy', args, { env })
    await untilListening(child, '127.0.0.1', port)
    return { port, children: [child] }
  },
}
