import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DnsEvent } from './events.ts'
import { Nameserver, NameserverSet } from './nameservers.ts'

const address = (text: string) => ({ host: '127.0.0.1', port: 53, text })

function setOf(...texts: string[]): { set: NameserverSet; events: DnsEvent[] } {
  const events: DnsEvent[] = []
  const set = new NameserverSet((event) => events.push(event))
  set.replace(texts.map(address))
  return { set, events }
}
const order = (nameservers: readonly Nameserver[]): string =>
  nameservers.map(({ address: { text } }) => text).join(' ')

test('the first answer is the round trip, each later one weighs an eighth', () => {
  const nameserver = new Nameserver(address('a'))
  assert.equal(nameserver.smoothedRttMs, null)
  nameserver.answered(80)
  assert.equal(nameserver.smoothedRttMs, 80)
  nameserver.answered(160)
  assert.equal(nameserver.smoothedRttMs, 90)
  nameserver.answered(10)
  assert.equal(nameserver.smoothedRttMs, 80)
})

test('a penalty doubles from a second to ten, and failures under it count once', () => {
  const nameserver = new Nameserver(address('a'))
  const penalties: number[] = []
  let nowMs = 0
  for (let count = 0; count < 6; count++) {
    nameserver.penalise(nowMs)
    const { failures, probeAtMs } = nameserver
    nameserver.penalise(probeAtMs - 1)
    assert.equal(nameserver.failures, failures)
    penalties.push(probeAtMs - nowMs)
    nowMs = probeAtMs
  }
  assert.deepEqual(penalties, [1000, 2000, 4000, 8000, 10_000, 10_000])
  assert.equal(nameserver.failures, 6)
})

test('the order is that of the file, the failing ones last, the longest failing last of all', () => {
  const { set } = setOf('a', 'b', 'c')
  assert.equal(order(set.inOrder(false)), 'a b c')
  const [a, b] = set.all as [Nameserver, Nameserver]
  set.penalise(a, 0)
  set.penalise(a, 1000)
  set.penalise(b, 0)
  assert.equal(order(set.inOrder(false)), 'c b a')
})

test('rotate begins with the next one each time', () => {
  const { set } = setOf('a', 'b', 'c')
  const orders = [1, 2, 3, 4].map(() => order(set.inOrder(true)))
  assert.deepEqual(orders, ['a b c', 'b c a', 'c a b', 'a b c'])
})

test('a failing one is probed once a penalty, beside a healthy one, and told of once', () => {
  const { set, events } = setOf('a', 'b')
  const [a, b] = set.all as [Nameserver, Nameserver]
  assert.equal(order(set.takeDueForProbe(0)), '')
  a.count('timeout')
  set.penalise(a, 0)
  set.penalise(a, 1)
  assert.deepEqual(events, [{ kind: 'nameserver_failing', nameserver: 'a', outcome: 'timeout' }])
  assert.equal(order(set.takeDueForProbe(999)), '')
  assert.equal(order(set.takeDueForProbe(1000)), 'a')
  assert.equal(order(set.takeDueForProbe(1000)), '', 'it is under way')
  set.penalise(a, 1000)
  assert.equal(order(set.takeDueForProbe(3000)), 'a')
  set.penalise(b, 3000)
  a.probing = false
  assert.equal(order(set.takeDueForProbe(9000)), '', 'with none healthy they are asked anyway')
  set.recovered(a)
  set.recovered(a)
  assert.deepEqual([a.failures, a.probing, events.length], [0, false, 3])
  assert.deepEqual(events[2], { kind: 'nameserver_recovered', nameserver: 'a' })
})

test('a new list keeps what is known of those that stay', () => {
  const { set } = setOf('a', 'b')
  set.penalise(set.all[0] as Nameserver, 0)
  set.replace(['c', 'a'].map(address))
  assert.deepEqual(
    set.all.map(({ address: { text }, failures }) => [text, failures]),
    [
      ['c', 0],
      ['a', 1],
    ],
  )
})
