import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findCommand } from './commands.ts'
import { freePort } from './ports.ts'
import { type Processes, untilListening } from './processes.ts'
import { searchDomain, type Zone } from './zones.ts'

export interface Nameserver {
  readonly address: string
  readonly port: number
  readonly pid: number
}

/** An address that no resolver of this machine uses (systemd-resolved sits on 127.0.0.53). */
const address = '127.0.1.53'

/** Starts dnsmasq with one A record for each zone, TTL 60 seconds; every other name is NXDOMAIN. */
export async function startNameserver(processes: Processes, zones: readonly Zone[]): Promise<Nameserver> {
  const dnsmasq = findCommand('dnsmasq')
  if (dnsmasq === undefined) {
    throw new Error('the nameserver is dnsmasq, which is not installed: apt-get install dnsmasq-base')
  }
  const port = await freePort(address)
  const config = join(processes.scratch, 'dnsmasq.conf')
  const records = zones.map((zone) => `host-record=${zone.hostName},${zone.address}`)
  const lines = ['no-resolv', 'no-hosts', `listen-address=${address}`, 'bind-interfaces', `port=${port}`]
  lines.push(`local=/${searchDomain}/`, 'local-ttl=60', 'dns-forward-max=1000', ...records)
  writeFileSync(config, `${lines.join('\n')}\n`)
  const child = await processes.start('nameserver', dnsmasq, ['--no-daemon', `--conf-file=${config}`])
  await untilListening(child, address, port)
  return { address, port, pid: child.pid }
}
