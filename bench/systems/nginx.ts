import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../test/support/ports.ts'
import {
  findCommand,
  type Installed,
  installedProgram,
  Processes,
  runCommand,
  untilListening,
} from '../processes.ts'
import { receiverPort, searchDomain } from '../zones.ts'
import type { Running, Setting, System } from './system.ts'

/** nginx as a proxy: with Lua (the recipe) and without. */

export function requireNginx(): string {
  const nginx = findCommand('nginx')
  if (nginx === undefined) throw new Error('nginx is not installed: apt-get install nginx')
  return nginx
}

const nginxInstalled = () => installedProgram('nginx', 'nginx', '-v')

/** The folder of nginx's dynamic modules. It is compiled into nginx. */
export async function modulesPath(nginx: string): Promise<string | undefined> {
  return (await runCommand(nginx, ['-V'])).text.match(/--modules-path=(\S+)/)?.[1]
}

/** nginx makes these folders when it starts. By default they are where only root may write. */
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
  /** Directives of the server that gets the load. */
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

/**
 * nginx without Lua: variables build the name, so nginx resolves it for each request. nginx keeps no connections to such
 * an upstream.
 */
export const nginxVariable: System = {
  name: 'nginx',
  title: 'nginx, variable proxy_pass',
  routesByZone: true,
  installed: nginxInstalled,
  start(setting) {
    const { nameservers, ttlSeconds } = setting
    const addresses = nameservers.map(({ address, port }) => `${address}:${port}`).join(' ')
    return startNginx(setting, {
      http: `
  resolver ${addresses} valid=${ttlSeconds}s ipv6=off;
  map $uri $zone_service { /mail mail; default default; }`,
      server: `
    location / {
      if ($request_method != POST) { return 405; }
      if ($http_server = "") { return 403; }
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_pass http://zone$http_server-$zone_service.${searchDomain}:${receiverPort};
    }`,
    })
  },
}

/**
 * The recipe that Zonegate replaces, on nginx with the Lua module: rewrite_by_lua decides and resolves, with a shared
 * cache; balancer_by_lua picks the address. Unlike the original it speaks HTTP/1.1 with an empty Connection header to the
 * zones, so that `keepalive 10` has an effect.
 */
export const seed: System = {
  name: 'seed',
  title: 'nginx + lua, the recipe',
  routesByZone: true,
  installed,
  async start(setting) {
    return startNginx(setting, await parts(setting))
  },
}

const luaFolder = '/usr/share/lua/5.1'

/** `nginx -t` tells whether the modules are there. It does not run init_by_lua, which needs the resolver. */
async function installed(): Promise<Installed> {
  const found = await nginxInstalled()
  const nginx = findCommand('nginx')
  if ('missing' in found || nginx === undefined) return found
  const resolvers = ['resty', 'nginx'].map((name) => join(luaFolder, name, 'dns/resolver.lua'))
  if (!resolvers.some(existsSync)) {
    return { missing: "nginx's DNS library for Lua is not installed: apt-get install lua-nginx-dns" }
  }
  const processes = new Processes()
  try {
    const config = join(processes.scratch, 'probe.conf')
    const anyone = { nameservers: [{ address: '127.0.0.1', port: 53 }], ttlSeconds: 60 }
    writeFileSync(config, nginxConfiguration({ workers: 1, processes }, 20_000, await parts(anyone)))
    const { ok, text } = await runCommand(nginx, ['-t', '-q', '-c', config, '-e', 'stderr'])
    const reason = text.match(/\[emerg\][^:]*: (.*)/)?.[1] ?? text.trim().split('\n')[0]
    return ok
      ? { version: `${found.version} + lua` }
      : { missing: `nginx refuses its Lua configuration: ${reason}` }
  } finally {
    processes.kill()
  }
}

async function parts({
  nameservers,
  ttlSeconds,
}: Pick<Setting, 'nameservers' | 'ttlSeconds'>): Promise<NginxParts> {
  const folder = (await modulesPath(findCommand('nginx') ?? 'nginx')) ?? ''
  const modules = ['ndk_http_module.so', 'ngx_http_lua_module.so'].map((file) => join(folder, file))
  const servers = nameservers.map(({ address, port }) => `{"${address}", ${port}}`).join(', ')
  return {
    main: modules
      .filter(existsSync)
      .map((file) => `load_module ${file};`)
      .join('\n'),
    http: `
  lua_package_path "${luaFolder}/?.lua;${luaFolder}/?/init.lua;;";
  lua_shared_dict resolv_conf 32k;
  lua_shared_dict dns_cache 10m;
  init_by_lua_block {
    require "resty.core"
    require "ngx.balancer"
    -- Debian installs OpenResty's resolver under a name of its own.
    local found, resolver = pcall(require, "resty.dns.resolver")
    dns_resolver = found and resolver or require "nginx.dns.resolver"
    ngx.shared.resolv_conf:set("search", "${searchDomain}")
  }
  upstream zone {
    server 0.0.0.1 down;
    balancer_by_lua_block {
      local balancer = require "ngx.balancer"
      balancer.set_timeouts(1, 0.5, 0.5)
      balancer.set_more_tries(1)
      local ok, err = balancer.set_current_peer(ngx.ctx.zone_address, ${receiverPort})
      if not ok then
        ngx.log(ngx.ERR, "no peer: ", err)
        return ngx.exit(500)
      end
    }
    keepalive 10;
  }`,
    server: `
    location / {
      rewrite_by_lua_block {
        local uri, method = ngx.var.uri, ngx.req.get_method()
        if method ~= "POST" then return ngx.exit(405) end
        local id = ngx.req.get_headers()["server"]
        if not id then return ngx.exit(403) end
        local service = uri == "/mail" and "mail" or "default"
        local name = "zone" .. tostring(id) .. "-" .. service
        local cache = ngx.shared.dns_cache
        local address = cache:get(name)
        if not address then
          local client = dns_resolver:new{ nameservers = {${servers}}, no_random = true }
          local full_name = name .. "." .. ngx.shared.resolv_conf:get("search")
          local answers = client and client:query(full_name, { qtype = client.TYPE_A })
          if not answers or answers.errcode or #answers == 0 then return ngx.exit(502) end
          address = answers[1].address
          cache:set(name, address, ${ttlSeconds})
        end
        ngx.ctx.zone_address = address
      }
      proxy_next_upstream_tries 2;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_pass http://zone;
    }`,
  }
}
