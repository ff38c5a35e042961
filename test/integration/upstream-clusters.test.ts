import assert from 'node:assert/strict'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Client, type ClientDuplexStream, credentials } from '@grpc/grpc-js'
import { parse, stringify } from 'yaml'
import {
  aggregatedDiscovery,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
} from '../../src/grpc/protos.ts'
import { TYPE_URLS } from '../../src/xds/resource.ts'
import { freePort } from '../support/ports.ts'
import { eventually, startProcessorAlone, type TestProcessor } from '../support/processor.ts'

/** A cluster outlives its last route by as much, as `timeout` of the route `forward` says. */
const DRAIN_MS = 200

let processor: TestProcessor
let client: Client
/** What an Envoy that accepts everything has. */
const held = new Set<string>()

before(async () => {
  const port = await freePort()
  processor = await startProcessorAlone({
    envoyFiles: true,
    listen: { grpc: `127.0.0.1:${port}` },
    config: { rules: { upstream: { tls: { ca: 'a.pem' } } } },
    prepare: (folder) =>
      replace(join(folder, 'envoy/routes.yaml'), (text) =>
        text.replace('timeout: 0s ', `timeout: ${DRAIN_MS / 1000}s `),
      ),
  })
  client = new Client(`127.0.0.1:${port}`, credentials.createInsecure())
  const { path, requestSerialize, responseDeserialize } = aggregatedDiscovery.DeltaAggregatedResources
  const stream: ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> =
    client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize)
  stream.on('error', () => undefined)
  stream.on('data', ({ type_url, nonce, resources, removed_resources }: DeltaDiscoveryResponse) => {
    for (const { name = '' } of resources ?? []) held.add(name)
    for (const name of removed_resources ?? []) held.delete(name)
    stream.write({ type_url, response_nonce: nonce })
  })
  stream.write({ node: { id: 'accepts-everything' }, type_url: TYPE_URLS.cluster })
  stream.write({ type_url: TYPE_URLS.virtualHost })
})
after(async () => {
  client?.close()
  await processor?.stop()
})

test('while the routes before stay in force, so do the clusters that they forward to', async () => {
  const [routes, config] = ['envoy/routes.yaml', 'zonegate.yaml'].map((name) =>
    join(processor.folder, name),
  ) as [string, string]
  const tlsClusters = (): string[] => [...held].filter((name) => name.startsWith('zones.tls.'))
  await eventually('the cluster is there', () => tlsClusters().length === 1)
  const [was] = tlsClusters()
  const sound = readFileSync(routes, 'utf8')
  replace(routes, () => 'resources: [')
  await eventually('it is at fault', async () =>
    (await processor.cli(['status'])).stdout.includes('routes.yaml'),
  )
  replace(config, (text) => stringify({ ...parse(text), rules: { upstream: { tls: { ca: 'b.pem' } } } }))
  await eventually('the cluster of the new rules is there', () => tlsClusters().some((name) => name !== was))
  // As long as it would take, and more.
  await new Promise((resolve) => setTimeout(resolve, 3 * DRAIN_MS))
  assert.equal(tlsClusters().length, 2)
  replace(routes, () => sound)
  await eventually('the one before is gone', () => tlsClusters().length === 1)
  assert.notDeepEqual(tlsClusters(), [was])
})

function replace(path: string, change: (text: string) => string): void {
  writeFileSync(`${path}.new`, change(readFileSync(path, 'utf8')))
  renameSync(`${path}.new`, path)
}
