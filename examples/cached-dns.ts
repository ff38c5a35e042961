// node examples/cached-dns.ts URL [NAMESERVER ...]: an HTTP request whose address comes from the cache of zonegate/dns.
import { get } from 'node:http'
import { createResolver } from 'zonegate/dns'

const [url = 'http://example.com/', ...nameservers] = process.argv.slice(2)
const resolver = createResolver(nameservers.length > 0 ? { nameservers } : {})
resolver.keep(new URL(url).hostname, (answer) => console.log('resolved', answer))
get(url, { lookup: resolver.nodeLookup }, (response) => {
  console.log('status', response.statusCode)
  response.resume().on('end', () => resolver.close())
})
