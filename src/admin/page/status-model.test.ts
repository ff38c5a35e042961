import assert from 'node:assert/strict'
import { describe, it } from 'node:test'

const { StatusModel } = await import(new URL('status-model.js', import.meta.url).href)

const AT = 1_800_000_000_000

function rest(slot: number): object {
  return { at: AT, dns: { ttlSecondsMax: 30 }, history: { points: 4, slotSeconds: 5, slot } }
}

function zone(id: string, requestsPerSecond: number): object {
  return {
    service: 'default',
    id,
    name: `zone${id}.test`,
    state: 'fresh',
    route: 'hot',
    addresses: [],
    requestsPerSecond,
  }
}

function started(...zones: object[]): InstanceType<typeof StatusModel> {
  const model = new StatusModel()
  model.apply('snapshot', JSON.stringify({ ...rest(7), zones }))
  return model
}

function update(
  model: InstanceType<typeof StatusModel>,
  slot: number,
  changed: object[],
  removed: string[] = [],
): void {
  model.apply('update', JSON.stringify({ ...rest(slot), zones: { changed, removed } }))
}

describe('the status on the page', () => {
  it('takes over a snapshot whole', () => {
    const model = started(
      { ...zone('1', 4), history: [1, 2, 3, 4] },
      { ...zone('2', 1), history: [1, 1, 1, 1] },
    )
    assert.deepEqual(
      model.zones.map(({ key }: { key: string }) => key),
      ['default/1', 'default/2'],
    )
    assert.deepEqual(model.history, [2, 3, 4, 5])
    assert.equal(model.ttlSecondsMax, 30)
    assert.ok(Math.abs(model.now() - AT) < 1000)
  })

  it('forgets the zones of an earlier snapshot', () => {
    const model = started({ ...zone('1', 4), history: [1, 2, 3, 4] })
    model.apply('snapshot', JSON.stringify({ ...rest(1), zones: [] }))
    assert.deepEqual(model.zones, [])
  })

  it('moves the history on by a slot, with the rate of then', () => {
    const model = started({ ...zone('1', 4), history: [1, 2, 3, 4] })
    update(model, 8, [zone('1', 9)])
    assert.deepEqual(model.zones[0].history, [2, 3, 4, 9])
    assert.deepEqual(model.history, [2, 3, 4, 9])
  })

  it('moves the history of zones that have not changed, too', () => {
    const model = started({ ...zone('1', 4), history: [1, 2, 3, 4] })
    update(model, 9, [])
    assert.deepEqual(model.zones[0].history, [3, 4, 4, 4])
  })

  it('leaves the history alone within a slot', () => {
    const model = started({ ...zone('1', 4), history: [1, 2, 3, 4] })
    update(model, 7, [{ ...zone('1', 4), state: 'stale' }])
    assert.deepEqual(model.zones[0].history, [1, 2, 3, 4])
    assert.equal(model.zones[0].state, 'stale')
  })

  it('leaves a zone alone that has not changed: the same object', () => {
    const model = started(
      { ...zone('1', 0), history: [0, 0, 0, 0] },
      { ...zone('2', 0), history: [0, 0, 0, 0] },
    )
    const [before] = model.zones
    update(model, 8, [{ ...zone('2', 0), state: 'stale' }])
    assert.equal(model.zones[0], before)
  })

  it('lets zones come and go', () => {
    const model = started({ ...zone('1', 4), history: [1, 2, 3, 4] })
    update(model, 8, [zone('2', 1)], ['default/1'])
    assert.deepEqual(
      model.zones.map(({ id }: { id: string }) => id),
      ['2'],
    )
    assert.deepEqual(model.zones[0].history, [0, 0, 0, 1])
  })

  it('has none of events that it does not know', () => {
    assert.equal(new StatusModel().apply('message', 'x'), false)
  })
})
