import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findCommand, runCommand } from '../commands.ts'
import { Processes } from '../processes.ts'
import { receiverPort, searchDomain } from '../zones.ts'
import { modulesPath, type NginxParts, nginxConfiguration, nginxInstalled, startNginx } from './nginx.ts'
import type { Installed, System } from './system.ts'

/**
 * The recipe that Zonegate replaces, on nginx with the Lua module: rewrite_by_lua decides and resolves through a shared
 * cache of 60 seconds, balancer_by_lua picks the address. Unlike the original it keeps upstream connections (HTTP/1.1 and
 * an empty Connection header), without which `keepalive 10` does nothing: the seed at its best.
 */
export const seed: System = {
  name: 'seed',
  title: 'seed, nginx + lua',
  routesByZone: true,
  installed,
  async start(setting) {
    return startNginx(setting, await parts(setting.nameserver))
  },
}

/** nginx itself says whether the modules and Lua libraries are there: it is given the configuration to test. */
async function installed(): Promise<Installed> {
  const found = await nginxInstalled()
  const nginx = findCommand('nginx')
  if ('missing' in found || nginx === undefined) return found
  const processes = new Processes()
  try {
    const config = join(processes.scratch, 'probe.conf')
    const anyone = { address: '127.0.0.1', port: 53 }
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

async function parts(nameserver: { address: string; port: number }): Promise<NginxParts> {
  const folder = (await modulesPath(findCommand('nginx') ?? 'nginx')) ?? ''
  const modules = ['ndk_http_module.so', 'ngx_http_lua_module.so'].map((file) => join(folder, file))
  return {
    main: modules
      .filter(existsSync)
      .map((file) => `load_module ${file};`)
      .join('\n'),
    http: `
  lua_package_path "/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua;;";
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
          local client = dns_resolver:new{ nameservers = {{"${nameserver.address}", ${nameserver.port}}}, no_random = true }
          local full_name = name .. "." .. ngx.shared.resolv_conf:get("search")
          local answers = client and client:query(full_name, { qtype = client.TYPE_A })
          if not answers or answers.errcode or #answers == 0 then return ngx.exit(502) end
          address = answers[1].address
          cache:set(name, address, 60)
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
