import { receiverPort, searchDomain } from '../zones.ts'
import { nginxInstalled, startNginx } from './nginx.ts'
import type { System } from './system.ts'

/** nginx without Lua: the name is built from variables, which makes nginx resolve it at run time and keep no connections. */
export const nginxVariable: System = {
  name: 'nginx',
  title: 'nginx, variable proxy_pass',
  routesByZone: true,
  installed: nginxInstalled,
  start(setting) {
    const { address, port } = setting.nameserver
    return startNginx(setting, {
      http: `
  resolver ${address}:${port} valid=60s ipv6=off;
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
