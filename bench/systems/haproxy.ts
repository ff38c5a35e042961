import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../test/support/ports.ts'
import { findCommand, installedProgram, untilListening } from '../processes.ts'
import { receiverPort, searchDomain } from '../zones.ts'
import type { System } from './system.ts'

/** HAProxy 2.6 and later: do-resolve finds the address of the name, set-dst connects to it. */
export const haproxy: System = {
  name: 'haproxy',
  title: 'HAProxy, do-resolve',
  routesByZone: true,
  installed: () => installedProgram('HAProxy', 'haproxy', '-v'),
  async start({ processes, workers, nameservers, ttlSeconds }) {
    const port = await freePort()
    const config = join(processes.scratch, 'haproxy.cfg')
    writeFileSync(
      config,
      `
global
  nbthread ${workers}
  maxconn 8192

defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 5s
  timeout http-request 10s
  http-reuse always

resolvers zones
${nameservers.map(({ address, port }, i) => `  nameserver ns${i + 1} ${address}:${port}`).join('\n')}
  hold valid ${ttlSeconds}s

frontend callback
  bind 127.0.0.1:${port} backlog 4096
  http-request deny deny_status 405 unless { method POST }
  http-request deny deny_status 403 unless { req.hdr(server) -m found }
  http-request set-var(txn.service) str(mail) if { path /mail }
  http-request set-var(txn.service) str(default) unless { path /mail }
  http-request set-var-fmt(txn.name) zone%[req.hdr(server)]-%[var(txn.service)].${searchDomain}
  http-request do-resolve(txn.address,zones,ipv4) var(txn.name)
  http-request deny deny_status 502 unless { var(txn.address) -m found }
  default_backend zone

backend zone
  retries 1
  http-request set-dst var(txn.address)
  http-request set-dst-port int(${receiverPort})
  server resolved 0.0.0.0:0
`,
    )
    const child = await processes.start('haproxy', findCommand('haproxy') ?? 'haproxy', ['-db', '-f', config])
    await untilListening(child, '127.0.0.1', port)
    return { port, children: [child] }
  },
}
