import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startNameserver } from '../../demo/nameserver.ts'
import { freePort } from './ports.ts'

export const DNSMASQ = '/usr/sbin/dnsmasq'
const READY_WITHIN_MS = 60_000

export interface ZoneNameserver {
  /** `127.0.0.1:port`. */
  readonly address: string
  close(): Promise<void>
}

export interface SrvLine {
  readonly name: string
  /** Empty: the service is not offered. */
  readonly target: string
  readonly port: number
  readonly priority: number
  readonly weight: number
}

/**
 * A nameserver with these names: dnsmasq where it is installed, else the demo's.
 * @param aliases names that are CNAMEs, and of what; dnsmasq alone knows them
 * @param services SRV records; dnsmasq alone knows them
 */
export async function startZoneNameserver(
  records: Readonly<Record<string, readonly string[]>>,
  aliases: Readonly<Record<string, string>> = {},
  services: readonly SrvLine[] = [],
): Promise<ZoneNameserver> {
  const port = await freePort()
  if (!existsSync(DNSMASQ)) {
    const socket = await startNameserver('127.0.0.1', port, records)
    return { address: `127.0.0.1:${port}`, close: () => new Promise((done) => socket.close(() => done())) }
  }
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-dns-'))
  const names = Object.entries(records).flatMap(([name, addresses]) =>
    addresses.map((address) => `host-record=${name},${address}`),
  )
  for (const [alias, name] of Object.entries(aliases)) names.push(`cname=${alias},${name}`)
  for (const { name, target, port, priority, weight } of services)
    names.push(`srv-host=${[name, ...(target === '' ? [] : [target, port, priority, weight])].join()}`)
  const lines = [
    'no-resolv',
    'no-hosts',
    'no-daemon',
    'listen-address=127.0.0.1',
    'bind-interfaces',
    `port=${port}`,
    'local=/test/',
    'local-ttl=30',
  ]
  writeFileSync(join(folder, 'dnsmasq.conf'), [...lines, ...names, ''].join('\n'))
  const child = spawn(DNSMASQ, ['-C', join(folder, 'dnsmasq.conf'), '--user=', '--group='], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await new Promise<void>((resolve, reject) => {
    let text = ''
    const timer = setTimeout(() => reject(new Error(`dnsmasq did not start: ${text}`)), READY_WITHIN_MS)
    child.stderr.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (!text.includes('started')) return
      clearTimeout(timer)
      resolve()
    })
    child.once('exit', () => reject(new Error(`dnsmasq ended: ${text}`)))
  })
  return {
    address: `127.0.0.1:${port}`,
    close: () =>
      new Promise((done) => {
        child.removeAllListeners('exit')
        child.once('exit', () => {
          rmSync(folder, { recursive: true, force: true })
          done()
        })
        child.kill('SIGTERM')
      }),
  }
}
