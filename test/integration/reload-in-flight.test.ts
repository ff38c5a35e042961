import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Client, credentials } from '@grpc/grpc-js'
import { parse, stringify } from 'yaml'
import {
  aggregatedDiscovery,
  codec,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
  externalProcessor,
  type ProcessingRequest,
  type ProcessingResponse,
} from '../../src/grpc/protos.ts'
import type { ClusterLoadAssignment } from '../../src/xds/messages.ts'
import { TYPE_URLS } from '../../src/xds/resource.ts'
import { a, type Query, type ScriptedNameserver, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { eventually, startProcessorAlone, type TestProcessor } from '../support/processor.ts'

/** What is under way while a configuration is saved ends by the new one. */
let nameserver: ScriptedNameserver
let processor: TestProcessor
let client: Client
let file: string
const held: Query[] = []
const answer = (query: Query): void => query.reply({ answers: [a(query.name, '10.0.0.1', 60)] })
const hold = (query: Query): void => void held.push(query)

before(async () => {
  nameserver = await startNameserver(answer)
  const port = await freePort()
  processor = await startProcessorAlone({
    envoyFiles: true,
    listen: { grpc: `127.0.0.1:${port}` },
    config: {
      dns: { search: 'game.test', nameservers: [nameserver.address], timeoutMs: 50_000, budgetMs: 60_000 },
    },
  })
  file = join(processor.folder, 'zonegate.yaml')
  client = new Client(`127.0.0.1:${port}`, credentials.createInsecure())
})
after(async () => {
  client?.close()
  await processor?.stop()
  await nameserver?.stop()
})

/** A request that asks the processor: settles with its answer. */
function ask(id: string): Promise<ProcessingResponse> {
  const { path, requestSerialize, responseDeserialize } = externalProcessor.Process
  const stream = client.makeBidiStreamRequest<ProcessingRequest, ProcessingResponse>(
    path,
    requestSerialize,
    responseDeserialize,
  )
  const pairs = { ':method': 'POST', ':path': '/pay', server: id }
  const headers = Object.entries(pairs).map(([key, value]) => ({ key, raw_value: Buffer.from(value) }))
  stream.write({ request_headers: { headers: { headers } } })
  stream.end()
  return new Promise((resolve, reject) => stream.once('data', resolve).once('error', reject))
}

/** The ports of the zone's addresses, as an Envoy that connects now is told. */
async function publishedPorts(key: string): Promise<(number | undefined)[]> {
  const { path, requestSerialize, responseDeserialize } = aggregatedDiscovery.DeltaAggregatedResources
  const stream = client.makeBidiStreamRequest<DeltaDiscoveryRequest, DeltaDiscoveryResponse>(
    path,
    requestSerialize,
    responseDeserialize,
  )
  stream.on('error', () => undefined)
  stream.write({ node: { id: 'e' }, type_url: TYPE_URLS.cluster, resource_names_subscribe: ['*'] })
  stream.write({ type_url: TYPE_URLS.endpoints, resource_names_subscribe: [key] })
  const bytes = await new Promise<Buffer>((resolve) => {
    stream.on('data', ({ type_url, nonce, resources = [] }: DeltaDiscoveryResponse) => {
      stream.write({ type_url, response_nonce: nonce })
      const found = resources.find(({ name }) => type_url === TYPE_URLS.endpoints && name === key)
      if (found?.resource?.value instanceof Buffer) resolve(found.resource.value)
    })
  })
  stream.cancel()
  const { endpoints = [] } = codec<ClusterLoadAssignment>(
    'envoy.config.endpoint.v3.ClusterLoadAssignment',
  ).decode(bytes)
  return endpoints
    .flatMap(({ lb_endpoints = [] }) => lb_endpoints)
    .map(({ endpoint }) => endpoint?.address?.socket_address?.port_value)
}

async function save(section: string, values: object): Promise<void> {
  const config = parse(readFileSync(file, 'utf8'))
  const accepted = async (): Promise<number> =>
    (await processor.ask('/api/status')).json().config.reloads.accepted
  const before = await accepted()
  writeFileSync(file, stringify({ ...config, [section]: { ...config[section], ...values } }))
  await eventually('the change is taken over', async () => (await accepted()) > before)
}

for (const [what, id, section, values, port] of [
  ['a port', '1', 'rules', { port: 9000 }, 9000],
  ['what is learned', '2', 'learned', { idleSeconds: 601 }, 9000],
  ['how DNS is asked', '3', 'dns', { attempts: 1 }, 9000],
] as const) {
  test(`the second request of a zone waits for DNS while ${what} is saved: the zone is learned, by the new configuration`, async () => {
    await ask(id)
    nameserver.script = hold
    await processor.ask('/api/flush', { method: 'POST' })
    const second = ask(id)
    await eventually('it waits for DNS', () =>
      held.some(({ name }) => name === `zone${id}-default.game.test`),
    )
    await save(section, values)
    nameserver.script = answer
    for (const query of held.splice(0)) answer(query)
    await second
    assert.deepEqual(await publishedPorts(`default/${id}`), [port])
    const { zones, dns } = (await processor.ask('/api/status')).json()
    const learned = zones.filter(({ route }: { route: string }) => route !== 'cold')
    assert.deepEqual(dns.namesKept, learned.length, 'each kept name is that of a learned zone')
  })
}
