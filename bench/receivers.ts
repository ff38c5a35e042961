import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort, isFreeForTcp } from './ports.ts'
import { type Processes, untilListening } from './processes.ts'
import { nginxPaths, requireNginx } from './systems/nginx.ts'
import { receiverAddresses, receiverPort } from './zones.ts'

/** What stands behind the proxies: one nginx worker that answers for every zone with the address it was reached at. */
export interface Receivers {
  readonly pid: number
  /** Requests answered so far, this question included. */
  served(): Promise<number>
}

export async function startReceivers(processes: Processes, connections: number): Promise<Receivers> {
  const nginx = requireNginx()
  // nginx would try for seconds, and meanwhile seem to listen.
  for (const address of receiverAddresses) {
    if (!(await isFreeForTcp(address, receiverPort))) {
      throw new Error(
        `the receivers need ${address}:${receiverPort}, which is in use; stop what listens there`,
      )
    }
  }
  const statusPort = await freePort()
  const config = join(processes.scratch, 'receivers.conf')
  writeFileSync(config, configuration(processes.scratch, connections, statusPort))
  const child = await processes.start('receivers', nginx, ['-c', config, '-e', 'stderr'])
  await untilListening(child, receiverAddresses[0] as string, receiverPort)
  return {
    pid: child.pid,
    async served() {
      const page = await (await fetch(`http://127.0.0.1:${statusPort}/`)).text()
      // stub_status: the third figure of the third line counts requests.
      return Number(page.match(/^\s*\d+ \d+ (\d+)/m)?.[1])
    },
  }
}

/** A connection that the receivers close would cost the proxy a new one, so they close none. */
function configuration(scratch: string, connections: number, statusPort: number): string {
  return `
worker_processes 1;
daemon off;
events { worker_connections ${connections}; }
http {
  ${nginxPaths(scratch, 'receivers')}
  access_log off;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  server {
${receiverAddresses.map((address) => `    listen ${address}:${receiverPort} backlog=4096;`).join('\n')}
    location / { default_type text/plain; return 200 "$server_addr $http_host\\n"; }
  }
  server {
    listen 127.0.0.1:${statusPort};
    location / { stub_status; }
  }
}
pid ${join(scratch, 'receivers.pid')};
`
}
