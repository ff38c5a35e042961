import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
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

/** How long a test waits to see that nothing happens, milliseconds. */
const NOTHING_WITHIN_MS = 600

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
    prepare: (folder) => {
      mkdirSync(join(folder, 'run'))
    },
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

/** The cluster that came last. Earlier ones stay for some minutes. */
const tlsCluster = (): string => [...held].filter((name) => name.startsWith('zones.tls.')).at(-1) ?? ''
const inFolder = (name: string): string => join(processor.folder, name)
const caFiles = (): string[] => readdirSync(inFolder('run')).filter((name) => name.startsWith('upstream-ca.'))
const statusText = async (): Promise<string> => (await processor.cli(['status'])).stdout
const configure = (change: object): void =>
  replace(inFolder('zonegate.yaml'), (text) => stringify({ ...parse(text), ...change }))

test('a saved upstream is in force on both paths while routes.yaml is at fault, by the routes that were sound last', async () => {
  await eventually('the cluster is there', () => tlsCluster() !== '')
  const was = tlsCluster()
  assert.equal(caFiles().length, 1)
  const sound = readFileSync(inFolder('envoy/routes.yaml'), 'utf8')
  replace(inFolder('envoy/routes.yaml'), () => 'resources: [')
  await eventually('it is at fault', async () => (await statusText()).includes('routes.yaml'))
  configure({ rules: { upstream: { tls: { ca: 'b.pem' } } } })
  await eventually('another one is there', () => tlsCluster() !== was)
  await eventually('the routes lead to it', () => {
    const routes = readFileSync(inFolder('run/routes.yaml'), 'utf8')
    return routes.includes(`cluster: ${tlsCluster()}`) && !routes.includes(was)
  })
  assert.match(await statusText(), /not taken: envoy\/routes\.yaml:1/)
  await eventually('the file of the CA that no rule uses is removed', () => caFiles().length === 1)
  replace(inFolder('envoy/routes.yaml'), () => sound)
  await eventually('it is mended', async () => !(await statusText()).includes('not taken'))
})

test("rules that Envoy's files can't follow wait: neither path changes until the files are mended", async () => {
  const was = tlsCluster()
  const sound = readFileSync(inFolder('envoy/listener.yaml'), 'utf8')
  replace(inFolder('envoy/listener.yaml'), (text) =>
    text.replace(/^( +)stat_prefix: callback/m, '$1tracing: {}\n$1stat_prefix: callback'),
  )
  await eventually('it is written', () =>
    readFileSync(inFolder('run/listener.yaml'), 'utf8').includes('tracing: {}'),
  )
  configure({
    rules: { upstream: { tls: { ca: 'c.pem' } } },
    tracing: { otlp: 'http://127.0.0.1:4317' },
  })
  await eventually('they are not taken', async () =>
    /not taken: the new configuration waits until Envoy's files fit it: envoy\/listener\.yaml:\d+:\d+: tracing:/.test(
      await statusText(),
    ),
  )
  await new Promise((resolve) => setTimeout(resolve, NOTHING_WITHIN_MS))
  assert.equal(tlsCluster(), was)
  assert.ok(readFileSync(inFolder('run/routes.yaml'), 'utf8').includes(was))
  assert.equal((await processor.ask('/api/status')).json().config.reloads.rejected, 1)
  replace(inFolder('envoy/listener.yaml'), () => sound)
  await eventually('they are in force', () => tlsCluster() !== was)
  await eventually('nothing is at fault', async () => !(await statusText()).includes('not taken'))
})

test('rules wait, too, while only a file beside the one that they need has faults', async () => {
  const was = tlsCluster()
  const [listener, clusters] = ['envoy/listener.yaml', 'envoy/clusters.yaml'].map(inFolder) as [
    string,
    string,
  ]
  const [fits, sound] = [readFileSync(listener, 'utf8'), readFileSync(clusters, 'utf8')]
  replace(listener, (text) =>
    text.replace(/^( +)stat_prefix: callback/m, '$1tracing: {}\n$1stat_prefix: callback'),
  )
  configure({ tracing: {} })
  await eventually('it is written', () =>
    readFileSync(inFolder('run/listener.yaml'), 'utf8').includes('tracing: {}'),
  )
  replace(clusters, () => 'resources: [')
  replace(listener, () => fits)
  await eventually('it is at fault', async () => (await statusText()).includes('clusters.yaml'))
  configure({ rules: { upstream: { tls: { ca: 'd.pem' } } }, tracing: { otlp: 'http://127.0.0.1:4317' } })
  const config = async () => (await processor.ask('/api/status')).json().config
  await eventually('they are not taken', async () =>
    /waits .*: envoy\/clusters\.yaml:1/.test((await config()).faults[0]),
  )
  await new Promise((resolve) => setTimeout(resolve, NOTHING_WITHIN_MS))
  assert.equal(tlsCluster(), was)
  replace(clusters, () => sound)
  await eventually('they are in force', () => tlsCluster() !== was)
  await eventually('nothing is at fault', async () => !(await statusText()).includes('not taken'))
})

test('after a start beside faults, rules wait if Envoy reads files by other rules; anything else is in force at once', async () => {
  const restarted = await startProcessorAlone({
    envoyFiles: true,
    prepare: (folder) => {
      mkdirSync(join(folder, 'run'))
      writeFileSync(join(folder, 'run/listener.yaml'), 'resources: []')
      replace(join(folder, 'envoy/listener.yaml'), (text) => `${text}\n]`)
    },
  })
  try {
    const change = (own: object): void =>
      replace(join(restarted.folder, 'zonegate.yaml'), (text) => stringify({ ...parse(text), ...own }))
    const config = async () => (await restarted.ask('/api/status')).json().config
    change({ zones: { 3: { maintenance: 'closed' } } })
    await eventually('the zone is in maintenance', async () => (await config()).reloads.accepted === 1)
    change({ rules: { header: 'x-zone' } })
    await eventually('the rules wait', async () =>
      /waits .*: envoy\/listener\.yaml/.test((await config()).faults[0]),
    )
    replace(join(restarted.folder, 'envoy/listener.yaml'), (text) => text.replace(/\n]$/, ''))
    await eventually('the rules are in force', async () => (await config()).faults.length === 0)
    await eventually('Envoy reads them', () =>
      readFileSync(join(restarted.folder, 'run/listener.yaml'), 'utf8').includes('x-zone)'),
    )
  } finally {
    await restarted.stop()
  }
})

function replace(path: string, change: (text: string) => string): void {
  writeFileSync(`${path}.new`, change(readFileSync(path, 'utf8')))
  renameSync(`${path}.new`, path)
}
