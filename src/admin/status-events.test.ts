import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { ServerResponse } from 'node:http'
import { type TestContext, test } from 'node:test'
import type { Status, ZoneStatus } from '../status/status.ts'
import { StatusEvents } from './status-events.ts'

const zone = (id: string, requestsPerSecond = 0): ZoneStatus =>
  ({ service: 'default', id, name: `n${id}`, requestsPerSecond }) as ZoneStatus

class Client extends EventEmitter {
  readonly sent: { event: string; data: { zones: unknown } }[] = []
  readonly buffers: unknown[] = []
  writableLength = 0
  ended = false
  status = 0

  writeHead(status: number): void {
    this.status = status
  }

  write(chunk: string | Buffer): void {
    this.buffers.push(chunk)
    const [, event, data] = /event: (\w+)\ndata: (.*)\n\n$/.exec(String(chunk)) ?? []
    this.sent.push({ event: event ?? '', data: JSON.parse(data ?? '{}') })
  }

  end(): void {
    this.ended = true
  }

  destroy(): void {
    this.ended = true
    this.emit('close')
  }
}

function setUp(context: TestContext, zones: ZoneStatus[]) {
  context.mock.timers.enable({ apis: ['setInterval'] })
  let reads = 0
  const events = new StatusEvents((history) => {
    reads += 1
    return {
      at: reads,
      zones: zones.map((one) => (history ? { ...one, history: [1] } : one)),
    } as unknown as Status
  }, assert.fail)
  context.after(() => events.close())
  const join = (): Client => {
    const client = new Client()
    assert.ok(events.add(client as unknown as ServerResponse, {}))
    return client
  }
  const second = (): void => context.mock.timers.tick(1000)
  return { events, join, second, reads: () => reads }
}

test('a client gets a snapshot with history, then what changes', (context) => {
  const zones = [zone('1'), zone('2')]
  const { join, second } = setUp(context, zones)
  const client = join()
  assert.equal(client.sent[0]?.event, 'snapshot')
  assert.deepEqual(client.sent[0]?.data.zones, [
    { ...zone('1'), history: [1] },
    { ...zone('2'), history: [1] },
  ])
  second()
  assert.deepEqual(client.sent[1]?.data.zones, { changed: [], removed: [] })
  zones[0] = zone('1', 5)
  zones.pop()
  zones.push(zone('3'))
  second()
  assert.equal(client.sent[2]?.event, 'update')
  assert.deepEqual(client.sent[2]?.data.zones, {
    changed: [zone('1', 5), zone('3')],
    removed: ['default/2'],
  })
})

test('who comes later misses nothing that goes afterwards', (context) => {
  const zones = [zone('1')]
  const { join, second } = setUp(context, zones)
  join()
  zones.push(zone('2'))
  const late = join()
  assert.deepEqual(late.sent[0]?.data.zones, [
    { ...zone('1'), history: [1] },
    { ...zone('2'), history: [1] },
  ])
  zones.pop()
  second()
  assert.deepEqual(late.sent[1]?.data.zones, { changed: [], removed: ['default/2'] })
})

test('an update is serialised once for all', (context) => {
  const { join, second } = setUp(context, [zone('1')])
  const [a, b] = [join(), join()]
  second()
  assert.equal(a.buffers.at(-1), b.buffers.at(-1))
})

test('without clients nothing is read', (context) => {
  const { join, second, reads } = setUp(context, [])
  second()
  assert.equal(reads(), 0)
  const client = join()
  client.emit('close')
  const before = reads()
  second()
  assert.equal(reads(), before)
})

test('clients are bounded, and one that does not read is dropped', (context) => {
  const { events, join, second } = setUp(context, [])
  const clients = Array.from({ length: 16 }, join)
  assert.equal(events.add(new Client() as unknown as ServerResponse, {}), false)
  const [slow] = clients
  if (slow !== undefined) slow.writableLength = 100 * 1024 * 1024
  second()
  assert.equal(slow?.ended, true)
  assert.equal(events.clients, 15)
})
