import type { Rules, Service } from '../routing/rules.ts'
import type { Config } from './schema.ts'

/** The checked `rules` section as the routing core wants it. */
export function rulesOf({ rules }: Config): Rules {
  const serviceByPath = new Map<string, Service>()
  let fallback: Service | undefined
  for (const [key, { paths, port }] of Object.entries(rules.services)) {
    const service: Service = { name: key.toLowerCase(), port: port ?? rules.port }
    if (paths === undefined) fallback = service
    for (const path of paths ?? []) serviceByPath.set(path, service)
  }
  if (fallback === undefined) throw new Error('the schema lets through only services with a fallback')
  return {
    header: rules.header,
    methods: new Set(rules.methods),
    idPattern: new RegExp(rules.idPattern),
    host: rules.host,
    serviceByPath,
    fallback,
  }
}
