import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findCommand, runCommand, versionOf } from '../commands.ts'
import { freePort } from '../ports.ts'
import { untilListening } from '../processes.ts'
import type { Installed, Running, Setting } from './system.ts'

/** nginx as a proxy: what the two systems that run on it share. */

export function requireNginx(): string {
  const nginx = findCommand('nginx')
  if (nginx === undefined) throw new Error('nginx is not installed: apt-get install nginx')
  return nginx
}

export async function nginxInstalled(): Promise<Installed> {
  const nginx = findCommand('nginx')
  return nginx === undefined
    ? { missing: 'nginx is not on PATH' }
    : { version: `nginx ${await versionOf(nginx, '-v')}` }
}

/** The folder of nginx's dynamic modules, as it was compiled in. */
export async function modulesPath(nginx: string): Promise<string | undefined> {
  return (await runCommand(nginx, ['-V'])).text.match(/--modules-path=(\S+)/)?.[1]
}

/** nginx makes these folders at start, by default where only root may write. */
export function nginxPaths(scratch: string, name: string): string {
  const folder = join(scratch, `${name}-temp`)
  mkdirSync(folder, { recursive: true })
  return ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `${kind}_temp_path ${join(folder, kind)};`)
    .join('\n  ')
}

export interface NginxParts {
  /** Directives of the main context: modules. */
  readonly main?: string
  readonly http: string
  /** Directives of the server that the load goes to. */
  readonly server: string
}

export function nginxConfiguration(setting: NginxSetting, port: number, parts: NginxParts): string {
  return `
${parts.main ?? ''}
worker_processes ${setting.workers};
daemon off;
pid ${join(setting.processes.scratch, 'nginx.pid')};
events { worker_connections 16384; }
http {
  ${nginxPaths(setting.processes.scratch, 'nginx')}
  access_log off;
  keepalive_requests 1000000000;
${parts.http}
  server {
    listen 127.0.0.1:${port} backlog=4096;
${parts.server}
  }
}
`
}

export type NginxSetting = Pick<Setting, 'workers' | 'processes'>

export async function startNginx(setting: Setting, parts: NginxParts): Promise<Running> {
  const port = await freePort()
  const config = join(setting.processes.scratch, 'nginx.conf')
  writeFileSync(config, nginxConfiguration(setting, port, parts))
  const child = await setting.processes.start('nginx', requireNginx(), ['-c', config, '-e', 'stderr'])
  await untilListening(child, '127.0.0.1', port)
  return { port, children: [child] }
}
