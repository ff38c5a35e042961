import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { CONNECTIONS_MAX, CONNECTIONS_PER_ENVOY_MAX } from '../../src/grpc/listener.ts'
import { aggregatedDiscovery, externalProcessor, loadReporting } from '../../src/grpc/protos.ts'
import { ENVOYS_MAX } from '../../src/xds/envoy-client.ts'
import { TYPE_URLS } from '../../src/xds/resource.ts'
import { eventually, startProcessorAlone, type TestProcessor } from '../support/processor.ts'

/** Many Envoys of one processor, as far as their connections and streams go: the main thread has one, each worker another. */
const ENVOYS = 50
const WORKERS = 8

suite(`${ENVOYS} Envoys with ${WORKERS} workers each`, () => {
  let processor: TestProcessor
  const sessions: ClientHttp2Session[] = []

  before(async () => {
    processor = await startProcessorAlone({ envoyFiles: true })
  })
  after(async () => {
    for (const session of sessions) session.destroy()
    await processor?.stop()
  })

  const session = async (): Promise<ClientHttp2Session> => {
    const socket = connectSocket(join(processor.folder, 'run/processor.sock'))
    const made = connect('http://processor', { createConnection: () => socket })
    made.on('error', () => undefined)
    sessions.push(made)
    await once(made, 'connect')
    return made
  }
  /** The first message of a stream's answer. */
  const firstAnswer = async (
    on: ClientHttp2Session,
    path: string,
    message: Buffer,
  ): Promise<[stream: ClientHttp2Stream, answer: Buffer]> => {
    const stream = on.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    const head = Buffer.alloc(5)
    head.writeUInt32BE(message.length, 1)
    stream.write(Buffer.concat([head, message]))
    const [answer] = (await once(stream, 'data')) as [Buffer]
    return [stream, answer.subarray(5)]
  }

  test("are all served: zones, load reports, and every worker's requests", async () => {
    const discovery = aggregatedDiscovery.DeltaAggregatedResources
    const reports = loadReporting.StreamLoadStats
    const { path, requestSerialize, responseDeserialize } = externalProcessor.Process
    const method = { key: ':method', raw_value: Buffer.from('POST') }
    const head = requestSerialize({ request_headers: { headers: { headers: [method] } } })
    for (let envoy = 0; envoy < ENVOYS; envoy++) {
      const node = { id: `envoy-${envoy}` }
      const main = await session()
      const clusters = discovery.requestSerialize({ node, type_url: TYPE_URLS.cluster })
      await firstAnswer(main, discovery.path, clusters)
      await firstAnswer(main, reports.path, reports.requestSerialize({ node }))
      for (let worker = 0; worker < WORKERS; worker++) {
        const [stream, answer] = await firstAnswer(await session(), path, head)
        const { immediate_response } = responseDeserialize(answer)
        assert.equal(immediate_response?.details?.toString(), 'server_header_missing')
        stream.end()
      }
    }
    assert.equal(sessions.length, ENVOYS * (WORKERS + 1))
    assert.deepEqual(
      sessions.filter(({ closed }) => closed),
      [],
    )
    await eventually(
      'status has them all',
      async () => (await processor.ask('/api/status')).json().envoys.length === ENVOYS,
    )
  })

  test('have connections enough for as many Envoys as are served, each with 64 workers', () => {
    assert.equal(CONNECTIONS_MAX, ENVOYS_MAX * CONNECTIONS_PER_ENVOY_MAX)
  })
})
