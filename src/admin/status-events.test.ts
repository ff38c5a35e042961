import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { ServerResponse } from 'node:http'
import { type TestContext, test } from 'node:test'
import type { StatusReading, ZoneStatus } from '../status/status.ts'
import { Turns } from '../turns.ts'
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
    if (String(chunk).startsWith('retry')) return
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
  const due: (() => void)[] = []
  const turns = new Turns({
    now: () => 0,
    start: (callback) => {
      due.push(callback)
      return { cancel: () => undefined }
    },
  })
  const read = (history: boolean) => {
    reads += 1
    return {
      rest: { at: reads },
      zones: zones.map((one) => (history ? { ...one, history: [1] } : one)),
    } as unknown as StatusReading
  }
  const bugs: unknown[] = []
  const events = new StatusEvents(read, turns, (error) => bugs.push(error))
  context.after(() => events.close())
  const join = (): Client => {
    const client = new Client()
    assert.ok(events.add(client as unknown as ServerResponse, {}))
    return client
  }
  /** Until all is read. */
  const settle = async (): Promise<void> => {
    do {
      for (const callback of due.splice(0)) callback()
      await new Promise((resolve) => setImmediate(resolve))
    } while (due.length > 0)
  }
  const second = async (settled = true): Promise<void> => {
    context.mock.timers.tick(1000)
    if (settled) await settle()
  }
  const turn = (): void => due.shift()?.()
  return { events, join, second, turn, settle, bugs, reads: () => reads }
}

test('a client gets a snapshot with history, then what changes', async (context) => {
  const zones = [zone('1'), zone('2')]
  const { join, second, settle } = setUp(context, zones)
  const client = join()
  await settle()
  assert.equal(client.sent[0]?.event, 'snapshot')
  assert.deepEqual(client.sent[0]?.data.zones, [
    { ...zone('1'), history: [1] },
    { ...zone('2'), history: [1] },
  ])
  await second()
  assert.deepEqual(client.sent[1]?.data.zones, { changed: [], removed: [] })
  zones[0] = zone('1', 5)
  zones.pop()
  zones.push(zone('3'))
  await second()
  assert.equal(client.sent[2]?.event, 'update')
  assert.deepEqual(client.sent[2]?.data.zones, {
    changed: [zone('1', 5), zone('3')],
    removed: ['default/2'],
  })
})

test('who comes later misses nothing that goes afterwards', async (context) => {
  const zones = [zone('1')]
  const { join, second, settle } = setUp(context, zones)
  const first = join()
  await settle()
  zones.push(zone('2'))
  const late = join()
  await settle()
  assert.deepEqual(late.sent[0]?.data.zones, [
    { ...zone('1'), history: [1] },
    { ...zone('2'), history: [1] },
  ])
  assert.deepEqual(first.sent[1]?.data.zones, { changed: [zone('2')], removed: [] })
  zones.pop()
  await second()
  assert.deepEqual(late.sent[1]?.data.zones, { changed: [], removed: ['default/2'] })
})

test('many zones are read in turns with other work, one update at a time', async (context) => {
  const zones = Array.from({ length: 1000 }, (_, index) => zone(`${index}`))
  const { join, second, turn, settle, reads } = setUp(context, zones)
  const client = join()
  turn()
  assert.deepEqual(client.sent, [])
  const late = join()
  await second(false)
  assert.equal(reads(), 1)
  await settle()
  const seen = (of: Client) => of.sent.map(({ event, data }) => [event, (data.zones as unknown[]).length])
  assert.deepEqual(seen(late), [['snapshot', 1000]])
  assert.equal(client.sent.map(({ event }) => event).join(), 'snapshot,update')
  assert.equal(reads(), 2)
})

test('a client that goes while it waits for its snapshot gets none', async (context) => {
  const { events, join, settle } = setUp(context, [zone('1')])
  const [gone, stays] = [join(), join()]
  gone.destroy()
  await settle()
  assert.deepEqual([gone.sent, stays.sent.length, events.clients], [[], 1, 1])
})

test('an exception ends one update, and is told', async (context) => {
  const zones = [zone('1')]
  const { join, second, settle, bugs } = setUp(context, zones)
  const client = join()
  await settle()
  const fault = new Error('fault')
  zones.push(
    new Proxy(zone('2'), {
      ownKeys: () => {
        throw fault
      },
    }),
  )
  await second()
  assert.deepEqual(bugs, [fault])
  zones.pop()
  await second()
  assert.deepEqual(
    client.sent.map(({ event }) => event),
    ['snapshot', 'update'],
  )
})

test('an update is serialised once for all', async (context) => {
  const { join, second, settle } = setUp(context, [zone('1')])
  const [a, b] = [join(), join()]
  await settle()
  await second()
  assert.equal(a.buffers.at(-1), b.buffers.at(-1))
})

test('without clients nothing is read', async (context) => {
  const { join, second, settle, reads } = setUp(context, [])
  await second()
  assert.equal(reads(), 0)
  const client = join()
  await settle()
  client.emit('close')
  const before = reads()
  await second()
  assert.equal(reads(), before)
})

test('clients are bounded, and one that does not read is dropped', async (context) => {
  const { events, join, second, settle } = setUp(context, [])
  const clients = Array.from({ length: 16 }, join)
  assert.equal(events.add(new Client() as unknown as ServerResponse, {}), false)
  await settle()
  const [slow] = clients
  if (slow !== undefined) slow.writableLength = 100 * 1024 * 1024
  await second()
  assert.equal(slow?.ended, true)
  assert.equal(events.clients, 15)
})
