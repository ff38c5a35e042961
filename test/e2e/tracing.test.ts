import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import type { Status } from '../../src/status/status.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, type Reply } from '../support/http.ts'
import { a, type ScriptedNameserver, soa, startNameserver } from '../support/nameserver.ts'
import { type OtlpReceiver, type ReceivedSpan, startOtlpReceiver } from '../support/otlp.ts'
import { freePort } from '../support/ports.ts'
import { ask, eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { outlineOf } from '../support/trace-picture.ts'

/** One trace from the caller to the zone: Envoy's spans and the processor's, in a collector of OTLP over gRPC. */
const HOST = '127.0.73.1'
const CALLER = 'b7ad6b7169203331'
const EXT_PROC = 'async envoy.service.ext_proc.v3.ExternalProcessor.Process egress'

suite('tracing', () => {
  let gateway: TestGateway
  let nameserver: ScriptedNameserver
  let zone: Receiver
  let collector: OtlpReceiver
  let traces = 0

  const newTrace = (): string => {
    traces += 1
    return `0af7651916cd43dd8448eb211c80${String(traces).padStart(4, '0')}`
  }
  const send = (
    id: string,
    traceId: string,
    { flags = '01', headers = [] }: { flags?: string; headers?: readonly [string, string][] } = {},
  ): Promise<Reply> =>
    call(gateway.port, {
      path: '/pay?card=4711',
      headers: [['server', id], ['traceparent', `00-${traceId}-${CALLER}-${flags}`], ...headers],
      body: 'x',
    })
  /** The spans of a trace once all of these are there. */
  const traced = async (traceId: string, ...names: string[]): Promise<ReceivedSpan[]> => {
    await eventually(`${names.join(', ')} of the trace`, () =>
      names.every((name) => collector.trace(traceId).some((span) => span.name === name)),
    )
    return collector.trace(traceId)
  }
  const named = (spans: readonly ReceivedSpan[], name: string): ReceivedSpan => {
    const span = spans.find((each) => each.name === name)
    assert.ok(span, `${name} in ${spans.map((each) => each.name).join(', ')}`)
    return span
  }
  const traceparentAtZone = (): string => String(zone.requests.at(-1)?.headers['traceparent'])
  /** Its requests come to the processor no more. */
  const becomesHot = (id: string): Promise<void> =>
    eventually(`zone ${id} is hot`, async () => {
      const asked = (): Promise<number> => gateway.stat('cluster.processor.upstream_rq_total')
      const before = await asked()
      await Promise.all([1, 2, 3].map(() => send(id, newTrace(), { flags: '00' })))
      return (await asked()) === before
    })

  before(async () => {
    const port = await freePort(HOST)
    zone = await startReceiver(HOST, port)
    collector = await startOtlpReceiver()
    nameserver = await startNameserver((query) =>
      query.name.startsWith('zone404-')
        ? query.reply({ rcode: 3, authorities: [soa('game.test', 30)] })
        : query.reply({ answers: [a(query.name, HOST, 60)] }),
    )
    gateway = await startGateway({
      config: {
        tracing: { otlp: collector.url },
        rules: [
          { name: 'pay', match: { paths: ['/pay'] }, port },
          { name: 'rest', port },
        ],
        dns: { nameservers: [nameserver.address], search: 'game.test', timeoutMs: 2000 },
        addresses: { allow: ['127.0.73.0/24'] },
      },
      // Each span is sent at once, and not the fifth.
      edit: {
        'envoy.yaml': (text) =>
          text.replace('static_layer:\n', 'static_layer:\n      tracing.opentelemetry.min_flush_spans: 1\n'),
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.stop()
    collector?.stop()
    await zone?.close()
  })

  test("a cold request's trace goes from the caller by Envoy, the processor and DNS to the zone", async () => {
    const traceId = newTrace()
    assert.equal((await send('12', traceId)).status, 200)
    const spans = await traced(traceId, 'ingress', EXT_PROC, 'decide', 'dns A', 'router zones egress')
    assert.equal(
      outlineOf(spans, CALLER),
      ['ingress', `  ${EXT_PROC}`, '    decide', '      dns A', '  router zones egress'].join('\n'),
    )
    const router = named(spans, 'router zones egress')
    assert.equal(traceparentAtZone(), `00-${traceId}-${router.spanId}-01`)
    for (const name of ['ingress', 'router zones egress', 'decide']) {
      const { attributes } = named(spans, name)
      assert.equal(attributes['zonegate.zone'], 'zone12-pay.game.test', name)
      assert.equal(attributes['zonegate.rule'], 'pay', name)
    }
    assert.equal(named(spans, 'ingress').attributes['zonegate.path'], 'cold')
    assert.equal(named(spans, 'decide').attributes['zonegate.dns.cache'], 'asked')
    assert.equal(named(spans, 'dns A').attributes['zonegate.dns.nameserver'], nameserver.address)
    assert.equal(named(spans, 'dns A').attributes['dns.question.name'], 'zone12-pay.game.test')
  })

  test('spans of the processor lie within those of Envoy', async () => {
    const traceId = newTrace()
    await send('13', traceId)
    const spans = await traced(traceId, 'ingress', 'decide', 'dns A')
    const [ingress, decide, dns] = ['ingress', 'decide', 'dns A'].map((name) => named(spans, name))
    const toleranceNanos = 20_000_000n // the clock of a wall that is set
    for (const [inner, outer] of [
      [decide, ingress],
      [dns, decide],
    ] as const) {
      assert.ok((inner?.startNanos ?? 0n) + toleranceNanos >= (outer?.startNanos ?? 0n))
      assert.ok((inner?.endNanos ?? 0n) <= (outer?.endNanos ?? 0n) + toleranceNanos)
    }
  })

  test('a second request is decided from the cache, which its span says', async () => {
    await send('14', newTrace(), { flags: '00' })
    const traceId = newTrace()
    await send('14', traceId)
    const spans = await traced(traceId, 'ingress', 'decide')
    assert.equal(named(spans, 'decide').attributes['zonegate.dns.cache'], 'fresh')
    assert.ok(!spans.some(({ name }) => name === 'dns A'))
  })

  test('a refused request says why, in both parts', async () => {
    const traceId = newTrace()
    assert.equal((await send('404', traceId)).status, 502)
    for (let more = 0; more < 5; more += 1) await send('404', newTrace())
    const spans = await traced(traceId, 'ingress', 'decide', 'dns A')
    for (const name of ['ingress', 'decide']) {
      const { attributes, status } = named(spans, name)
      assert.equal(attributes['zonegate.reason'], 'name_not_found', name)
      assert.equal(attributes['zonegate.rule'], 'pay', name)
      assert.equal(status, 2, name)
    }
  })

  test('a hot request is in the trace, by zone and rule, without the processor', async () => {
    await becomesHot('12')
    const traceId = newTrace()
    await send('12', traceId)
    const spans = await traced(traceId, 'ingress', 'router pay/12 egress')
    assert.equal(outlineOf(spans, CALLER), 'ingress\n  router pay/12 egress')
    assert.equal(traceparentAtZone(), `00-${traceId}-${named(spans, 'router pay/12 egress').spanId}-01`)
    const { attributes } = named(spans, 'ingress')
    assert.equal(attributes['zonegate.zone'], 'zone12-pay.game.test')
    assert.equal(attributes['zonegate.rule'], 'pay')
    assert.equal(attributes['zonegate.path'], 'hot')
  })

  test('a caller who does not sample has no spans, cold and hot, and the zone hears so', async () => {
    const unsampled = [newTrace(), newTrace()]
    for (const [at, id] of ['21', '12'].entries()) {
      await send(id, unsampled[at] ?? '', { flags: '00' })
      assert.match(traceparentAtZone(), new RegExp(`^00-${unsampled[at]}-[0-9a-f]{16}-00$`))
    }
    // Whatever was sent before them has arrived with this one.
    const traceId = newTrace()
    await send('22', traceId)
    await traced(traceId, 'ingress', 'decide')
    for (const id of unsampled) assert.deepEqual(collector.trace(id), [])
  })

  test('no span has a query, which may hold secrets, and the zone gets the request id as it came', async () => {
    const requestId = '5acdb322-2860-40e5-878b-4916384a068b'
    const traceId = newTrace()
    await send('12', traceId, { headers: [['x-request-id', requestId]] })
    await traced(traceId, 'ingress')
    assert.equal(zone.requests.at(-1)?.headers['x-request-id'], requestId)
    assert.ok(collector.spans.length > 10)
    assert.doesNotMatch(JSON.stringify(collector.spans.map(({ attributes }) => attributes)), /4711/)
  })

  test('off and on again is live, and none of it is in the listener while it is off', async () => {
    await gateway.configure('tracing', { otlp: null })
    const listener = (): string => readFileSync(join(gateway.folder, 'run/listener.yaml'), 'utf8')
    await eventually(
      'Envoy is to read a listener without tracing',
      () => !listener().includes('opentelemetry'),
    )
    assert.doesNotMatch(listener(), /request_id_extension/)
    const isTraced = async (): Promise<boolean> => {
      const traceId = newTrace()
      await send('12', traceId)
      return traceparentAtZone() !== `00-${traceId}-${CALLER}-01`
    }
    await eventually('no request is traced', async () => !(await isTraced()))
    await gateway.configure('tracing', { otlp: collector.url })
    await eventually('requests are traced', isTraced)
    await eventually('the processor, too', async () => {
      const traceId = newTrace()
      await send(`3${traces}`, traceId)
      await traced(traceId, 'ingress')
      return collector.trace(traceId).some(({ name }) => name === 'decide')
    })
  })

  test('samplePercent bounds what callers can have traced, whatever they send', async () => {
    await gateway.configure('tracing', { samplePercent: 0 })
    await eventually('no traceparent has its request traced', async () => {
      await send('12', newTrace())
      return traceparentAtZone().endsWith('-00')
    })
    const headers = [
      ['server', '12'],
      ['x-client-trace-id', '1'],
      ['x-envoy-force-trace', '1'],
      ['x-request-id', '5acdb322-2860-a0e5-878b-4916384a0000'],
    ] as const
    await call(gateway.port, { path: '/pay', headers, body: 'x' })
    assert.match(traceparentAtZone(), /-00$/)
    await gateway.configure('tracing', { samplePercent: 100 })
    await eventually('requests are traced again', async () => {
      await send('12', newTrace())
      return traceparentAtZone().endsWith('-01')
    })
  })

  test('while the collector is away no request fails, and the log says that spans are lost', async () => {
    collector.stop()
    const statuses = new Set<number>()
    for (let round = 0; round < 20; round += 1)
      for (const { status } of await Promise.all(
        [1, 2, 3, 4, 5].map((id) => send(`4${id}${round}`, newTrace())),
      ))
        statuses.add(status)
    assert.deepEqual([...statuses], [200])
    await eventually('a line in the log', () => gateway.log('processor').includes('spans are lost'))
    const { text } = await ask(gateway.httpPort, '/metrics')
    assert.match(text, /^zonegate_spans_total\{result="failed"\} [1-9]/m)
    assert.match(text, /^zonegate_spans_total\{result="sent"\} [1-9]/m)
    const status: Status = JSON.parse((await ask(gateway.httpPort, '/api/status')).text)
    assert.ok((status.spans?.failed ?? 0) > 0, 'the status counts lost spans')
  })

  test('a collector that never answers is given up, each time: nothing is held for it', async () => {
    const calls = { begun: 0, open: 0 }
    const silent = createServer().on('stream', (stream) => {
      calls.begun += 1
      calls.open += 1
      stream
        .on('error', () => undefined)
        .on('close', () => {
          calls.open -= 1
        })
      stream.resume()
    })
    await once(silent.listen(0, '127.0.0.1'), 'listening')
    const { port } = silent.address() as AddressInfo
    try {
      await gateway.configure('tracing', { otlp: `http://127.0.0.1:${port}`, samplePercent: 100 })
      await eventually('spans are sent', async () => {
        assert.equal((await send('12', newTrace())).status, 200)
        return calls.begun >= 10
      })
      await eventually('no call is left', () => calls.open === 0)
    } finally {
      silent.close()
    }
  })

  test('the zone that was refused is named among the worst, and no other', async () => {
    await eventually('it is named', async () => {
      const { text } = await ask(gateway.httpPort, '/metrics')
      const named = text.match(/^zonegate_zone_refusals\{.*/gm) ?? []
      return named.join() === 'zonegate_zone_refusals{zone="pay/404",name="zone404-pay.game.test"} 6'
    })
  })
})
