/** Widely used nameservers with one small zone, on a free port of the loopback. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from './ports.ts'

export const BIG_ANSWER = Array.from({ length: 250 }, (_, at) => `10.1.${at >> 8}.${at & 255}`)

const ZONE = `$ORIGIN game.test.
$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 17
@ NS ns
ns A 127.0.0.1
zone1 A 10.0.0.1
zone1 A 10.0.0.2
zone1 AAAA 2001:db8::1
alias CNAME zone1
alias2 CNAME alias
ipv4 A 10.0.0.3
_pay._tcp.zone1 SRV 10 3 9001 zone1
_pay._tcp.zone1 SRV 20 0 9002 ipv4
_pay._tcp.zone2 SRV 0 0 0 .
${BIG_ANSWER.map((address) => `big A ${address}`).join('\n')}
`

export interface NameserverProgram {
  readonly name: string
  /** Writes what it needs into the directory, and says how to run it. */
  readonly prepare: (directory: string, port: number) => { command: string; arguments: string[] }
  /** True: its negative answers have an SOA. */
  readonly sendsSoa: boolean
}

const dnsmasq: NameserverProgram = {
  name: 'dnsmasq',
  sendsSoa: false,
  prepare(directory, port) {
    const hosts = join(directory, 'hosts')
    const addresses = [
      ['ns', '127.0.0.1'],
      ['zone1', '10.0.0.1'],
      ['zone1', '10.0.0.2'],
      ['zone1', '2001:db8::1'],
      ['ipv4', '10.0.0.3'],
      ...BIG_ANSWER.map((address) => ['big', address]),
    ]
    writeFileSync(hosts, addresses.map(([name, address]) => `${address} ${name}.game.test\n`).join(''))
    const flags = [
      '--keep-in-foreground',
      '--conf-file=/dev/null',
      '--no-hosts',
      '--no-resolv',
      '--bind-interfaces',
    ]
    const values = {
      'listen-address': '127.0.0.1',
      port,
      'addn-hosts': hosts,
      local: '/game.test/',
      'local-ttl': 300,
      'pid-file': join(directory, 'pid'),
      ...(process.getuid?.() === 0 ? { user: 'root' } : {}),
    }
    const cnames = ['--cname=alias.game.test,zone1.game.test', '--cname=alias2.game.test,alias.game.test']
    const services = [
      '--srv-host=_pay._tcp.zone1.game.test,zone1.game.test,9001,10,3',
      '--srv-host=_pay._tcp.zone1.game.test,ipv4.game.test,9002,20,0',
      '--srv-host=_pay._tcp.zone2.game.test',
    ]
    const options = Object.entries(values).map(([name, value]) => `--${name}=${value}`)
    return { command: 'dnsmasq', arguments: [...flags, ...options, ...cnames, ...services] }
  },
}

const unbound: NameserverProgram = {
  name: 'unbound',
  sendsSoa: true,
  prepare(directory, port) {
    const zone = join(directory, 'zone')
    const file = join(directory, 'unbound.conf')
    writeFileSync(zone, ZONE)
    writeFileSync(
      file,
      `server:
  interface: 127.0.0.1
  port: ${port}
  do-daemonize: no
  chroot: ""
  username: ""
  directory: "${directory}"
  pidfile: ""
  use-syslog: no
  module-config: "iterator"
  local-zone: "test." nodefault
remote-control:
  control-enable: no
auth-zone:
  name: "game.test."
  zonefile: "${zone}"
  for-downstream: yes
  for-upstream: yes
`,
    )
    return { command: 'unbound', arguments: ['-d', '-c', file] }
  },
}

const knot: NameserverProgram = {
  name: 'knotd',
  sendsSoa: true,
  prepare(directory, port) {
    const zone = join(directory, 'zone')
    const file = join(directory, 'knot.conf')
    writeFileSync(zone, ZONE)
    writeFileSync(
      file,
      `server:
    listen: 127.0.0.1@${port}
    rundir: "${directory}"
database:
    storage: "${directory}"
zone:
  - domain: game.test
    file: "${zone}"
    zonefile-sync: -1
`,
    )
    return { command: 'knotd', arguments: ['-c', file] }
  },
}

export const NAMESERVER_PROGRAMS: readonly NameserverProgram[] = [dnsmasq, unbound, knot]

export function isInstalled({ name }: NameserverProgram): boolean {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).error === undefined
}

/** Runs it, with its messages held back, for as long as `use` takes. */
export async function withNameserverProgram(
  program: NameserverProgram,
  use: (address: string) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), `zonegate-${program.name}-`))
  const port = await freePort()
  const { command, arguments: args } = program.prepare(directory, port)
  const child = spawn(command, args, { stdio: 'ignore' })
  try {
    await use(`127.0.0.1:${port}`)
  } finally {
    await end(child)
    rmSync(directory, { recursive: true, force: true })
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}
