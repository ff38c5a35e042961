import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import type { DeltaDiscoveryRequest } from '../grpc/protos.ts'
import type { DeltaResponse } from './delta-response.ts'
import { REFUSED_MS } from './refusals.ts'
import type { Resource } from './resource.ts'
import { type Desired, Subscription } from './subscription.ts'

const TYPE = 'type.googleapis.com/test.Thing'

function thing(name: string, version: string): Resource {
  return { name, version, encode: () => Buffer.from(`${name}@${version}`) }
}

/** `a@1 b@2 -c`: what a response updates and removes. */
function text(response: DeltaResponse | undefined): string {
  if (response === undefined) return 'nothing'
  return [
    ...response.updated.map(({ name, version }) => `${name}@${version}`),
    ...response.removed.map((name) => `-${name}`),
  ].join(' ')
}

describe('a subscription', () => {
  let offered: Map<string, Desired<Resource>>
  let subscription: Subscription
  let nowMs = 0

  beforeEach(() => {
    nowMs = 0
    offered = new Map()
    offer('a', '1')
    offer('b', '1')
    subscription = create()
  })

  function create(max = 100): Subscription {
    return new Subscription(
      TYPE,
      { names: () => offered.keys(), desired: (name) => offered.get(name) ?? 'absent' },
      max,
    )
  }

  function offer(name: string, version: string): void {
    offered.set(name, thing(name, version))
    subscription?.mark(name)
  }

  function withdraw(name: string): void {
    offered.delete(name)
    subscription.mark(name)
  }

  function request(request: DeltaDiscoveryRequest = {}): string {
    subscription.receive(request, nowMs)
    return next()
  }

  let last: DeltaResponse | undefined
  function next(): string {
    const response = subscription.next(nowMs)
    last = response ?? last
    return text(response)
  }

  const nonce = (): string => last?.nonce ?? 'no response'
  const ack = (more: DeltaDiscoveryRequest = {}): string => request({ response_nonce: nonce(), ...more })
  const nack = (more: DeltaDiscoveryRequest = {}): string =>
    request({ response_nonce: nonce(), error_detail: { message: 'no good' }, ...more })

  describe('says what it offers', () => {
    test('nothing before it is asked', () => {
      assert.equal(next(), 'nothing')
    })

    test('everything to a first request without names', () => {
      assert.equal(request(), 'a@1 b@1')
      assert.equal(last?.typeUrl, TYPE)
    })

    test('everything to "*"', () => {
      assert.equal(request({ resource_names_subscribe: ['*'] }), 'a@1 b@1')
    })

    test('at once to a wildcard, even if there is nothing', () => {
      offered.clear()
      assert.equal(request(), '')
    })

    test('by the removal of what never was, where an empty answer would reach nobody', () => {
      const named = (): Subscription =>
        new Subscription(
          TYPE,
          { names: () => offered.keys(), desired: () => 'later', noneOf: () => 'none' },
          100,
        )
      offered.clear()
      subscription = named()
      assert.equal(request(), '-none')
      assert.equal(ack(), 'nothing')
      // Whoever has something, or is about to get it, is not told that there is nothing.
      subscription = named()
      assert.equal(request({ initial_resource_versions: { a: '1' } }), '')
      offered.set('a', 'later')
      subscription = named()
      assert.equal(request(), '')
    })

    test('only what is named to a request with names', () => {
      assert.equal(request({ resource_names_subscribe: ['b'] }), 'b@1')
      offer('a', '2')
      assert.equal(ack(), 'nothing')
    })

    test('that a named resource does not exist', () => {
      assert.equal(request({ resource_names_subscribe: ['x', 'a'] }), 'a@1 -x')
    })

    test('a named resource as soon as it exists', () => {
      request({ resource_names_subscribe: ['x'] })
      assert.equal(ack(), 'nothing')
      offer('x', '1')
      assert.equal(next(), 'x@1')
    })

    test('nothing of what is to wait, until it is marked again', () => {
      offered.set('a', 'later')
      assert.equal(request({ resource_names_subscribe: ['a'] }), 'nothing')
      offer('a', '1')
      assert.equal(next(), 'a@1')
    })
  })

  describe('sends what has changed', () => {
    test('once', () => {
      request()
      assert.equal(ack(), 'nothing')
      subscription.mark('a')
      assert.equal(next(), 'nothing')
      offer('a', '2')
      assert.equal(next(), 'a@2')
      assert.equal(ack(), 'nothing')
    })

    test('with removals', () => {
      request()
      ack()
      withdraw('b')
      assert.equal(next(), '-b')
      assert.equal(ack(), 'nothing')
      assert.deepEqual([...subscription.held.keys()], ['a'])
    })

    test('not while a response is under way, and then only the latest of it', () => {
      request()
      offer('a', '2')
      offer('a', '3')
      withdraw('b')
      assert.equal(next(), 'nothing')
      assert.equal(ack(), 'a@3 -b')
    })

    test('without what came and went meanwhile', () => {
      request()
      offer('c', '1')
      withdraw('c')
      assert.equal(ack(), 'nothing')
    })

    test('without what went while the client wanted nothing, though it was on its way', () => {
      request()
      request({ resource_names_unsubscribe: ['*'] })
      withdraw('b')
      request({ resource_names_subscribe: ['*'] })
      assert.equal(ack(), '-b')
      assert.equal(ack(), 'nothing')
    })

    test('back to an older version', () => {
      request()
      offer('a', '2')
      assert.equal(ack(), 'a@2')
      offer('a', '1')
      assert.equal(ack(), 'a@1')
    })

    test('in portions', () => {
      subscription = create(2)
      offer('c', '1')
      withdraw('b')
      assert.equal(request(), 'a@1 c@1')
      offer('d', '1')
      offer('e', '1')
      offer('f', '1')
      assert.equal(ack(), 'd@1 e@1')
      assert.equal(ack(), 'f@1')
      assert.equal(ack(), 'nothing')
    })
  })

  describe('to a change of the subscription', () => {
    test('sends a name that is subscribed again, though the client should have it', () => {
      request({ resource_names_subscribe: ['a'] })
      ack()
      assert.equal(request({ resource_names_subscribe: ['a'] }), 'a@1')
    })

    test('takes it together with an ACK', () => {
      request({ resource_names_subscribe: ['a'] })
      assert.equal(ack({ resource_names_subscribe: ['b'] }), 'b@1')
    })

    test('takes it with the nonce of an old response', () => {
      request({ resource_names_subscribe: ['a'] })
      ack()
      assert.equal(request({ response_nonce: '1', resource_names_subscribe: ['b'] }), 'b@1')
    })

    test('waits with the answer for the response under way', () => {
      request({ resource_names_subscribe: ['a'] })
      const first = nonce()
      assert.equal(request({ resource_names_subscribe: ['b'] }), 'nothing')
      assert.equal(request({ response_nonce: first }), 'b@1')
    })

    test('says no more of a name that is unsubscribed', () => {
      request({ resource_names_subscribe: ['a', 'b'] })
      ack()
      assert.equal(request({ resource_names_unsubscribe: ['a'] }), 'nothing')
      offer('a', '2')
      withdraw('b')
      assert.equal(next(), '-b')
    })

    test('ignores a name that was never subscribed', () => {
      request({ resource_names_subscribe: ['a'] })
      ack()
      assert.equal(request({ resource_names_unsubscribe: ['b', 'x'] }), 'nothing')
    })

    test('keeps the wildcard beside names, until "*" is unsubscribed', () => {
      request()
      assert.equal(ack({ resource_names_subscribe: ['a'] }), 'a@1')
      offer('b', '2')
      assert.equal(ack(), 'b@2')
      ack({ resource_names_unsubscribe: ['*'] })
      offer('b', '3')
      assert.equal(next(), 'nothing')
      offer('a', '2')
      assert.equal(next(), 'a@2')
      assert.deepEqual([...subscription.held.keys()], ['a'])
    })

    test('answers the unsubscription of a name that the wildcard covers', () => {
      request({ resource_names_subscribe: ['*', 'a', 'x'] })
      ack()
      assert.equal(request({ resource_names_unsubscribe: ['a', 'x'] }), 'a@1 -x')
    })

    test('never takes a later request without names for a wildcard', () => {
      request({ resource_names_subscribe: ['a'] })
      assert.equal(ack({ resource_names_unsubscribe: ['a'] }), 'nothing')
      assert.equal(request(), 'nothing')
    })
  })

  describe('to an ACK or a NACK', () => {
    test('tells what was acknowledged', () => {
      request()
      const received = subscription.receive({ response_nonce: nonce() }, nowMs)
      assert.equal(received.kind, 'ack')
      assert.deepEqual(received.kind === 'ack' && received.updated.map(({ name }) => name), ['a', 'b'])
    })

    test('tells what was refused, in the words of the client', () => {
      request()
      const received = subscription.receive(
        { response_nonce: nonce(), error_detail: { message: 'no good' } },
        nowMs,
      )
      assert.equal(received.kind === 'nack' && received.message, 'no good')
      assert.equal(received.kind === 'nack' && received.atFault, undefined)
      assert.equal(subscription.held.size, 0)
    })

    test('sends halves of what was refused, those without a fault first, until it knows the one at fault', () => {
      for (const name of ['c', 'd', 'e', 'f', 'g', 'h']) offer(name, '1')
      assert.equal(request(), 'a@1 b@1 c@1 d@1 e@1 f@1 g@1 h@1')
      assert.equal(nack(), 'a@1 b@1 c@1 d@1')
      assert.equal(nack(), 'e@1 f@1 g@1 h@1')
      assert.equal(ack(), 'a@1 b@1')
      assert.equal(ack(), 'c@1 d@1')
      assert.equal(nack(), 'c@1')
      assert.equal(ack(), 'd@1')
      assert.equal(subscription.rejectedCount, 0)
      assert.equal(nack(), 'nothing')
      assert.equal(subscription.rejectedCount, 1)
      assert.deepEqual([...subscription.held.keys()].sort(), ['a', 'b', 'c', 'e', 'f', 'g', 'h'])
    })

    test('sends what has changed in between, and the search goes on', () => {
      request()
      offer('c', '1')
      offer('d', '1')
      assert.equal(nack(), 'a@1')
      offer('e', '1')
      assert.equal(ack(), 'c@1 d@1 e@1')
      assert.equal(ack(), 'b@1')
    })

    test('does not send a refused version again for a while, which grows', () => {
      offered.delete('b')
      request()
      const rests: number[] = []
      for (let refusals = 0; refusals < 9; refusals++) {
        assert.equal(nack(), 'nothing')
        subscription.mark('a')
        assert.equal(next(), 'nothing')
        const untilMs = subscription.wakeAtMs()
        rests.push(untilMs - nowMs)
        nowMs = untilMs - 1
        assert.equal(next(), 'nothing')
        nowMs = untilMs
        assert.equal(next(), 'a@1')
      }
      const { first, max } = REFUSED_MS
      assert.deepEqual([rests[0], rests[1], rests.at(-1)], [first, 2 * first, max])
      assert.equal(ack(), 'nothing')
      assert.equal(subscription.rejectedCount, 0)
    })

    test('sends a refused version at once when its cause may be gone', () => {
      request()
      assert.equal(nack(), 'a@1')
      assert.equal(nack(), 'b@1')
      assert.equal(nack(), 'nothing')
      subscription.forgetRefusals()
      assert.equal(next(), 'a@1 b@1')
      assert.equal(ack(), 'nothing')
    })

    test('sends the next version of what was refused, and recovers', () => {
      offered.delete('b')
      request()
      nack()
      offer('a', '2')
      offer('c', '1')
      assert.equal(next(), 'c@1')
      assert.equal(ack(), 'a@2')
      assert.equal(ack(), 'nothing')
      assert.equal(subscription.held.get('a')?.version, '2')
      assert.equal(subscription.rejectedCount, 0)
    })

    test('removes what is withdrawn while it is searched, as the client may have taken it over', () => {
      request()
      assert.equal(nack(), 'a@1')
      withdraw('b')
      assert.equal(ack(), '-b')
      assert.equal(ack(), 'nothing')
    })

    test('searches more and more slowly where everything is refused', () => {
      const names = Array.from({ length: 64 }, (_, n) => `n${n}`)
      for (const name of names) offer(name, '1')
      request()
      let searches = 0
      for (; searches < 64; searches++) {
        if (nack() !== 'nothing') continue
        nowMs = subscription.wakeAtMs()
        if (next() === 'nothing') break
      }
      assert.ok(nowMs > 60_000, `${searches} responses within ${nowMs} ms`)
    })

    test('keeps what is not suspected flowing meanwhile', () => {
      request()
      ack()
      for (let n = 0; n < 40; n++) offer(`bad${n}`, '1')
      next()
      for (let version = 2; version < 60; version++) {
        offer('a', String(version))
        let sent = nack()
        for (let tries = 0; !sent.includes('a@') && tries < 2; tries++) {
          if (sent === 'nothing') nowMs = subscription.wakeAtMs()
          sent = sent === 'nothing' ? next() : nack()
        }
        assert.equal(sent, `a@${version}`)
        assert.notEqual(ack(), `a@${version}`)
      }
    })

    test('keeps what was acknowledged before a refusal', () => {
      request()
      ack()
      offer('a', '2')
      next()
      assert.equal(nack(), 'nothing')
      assert.equal(subscription.held.get('a')?.version, '1')
      withdraw('a')
      assert.equal(next(), '-a')
    })

    test('repeats a removal that was refused for the company it kept', () => {
      request()
      ack()
      offer('a', '2')
      withdraw('b')
      assert.equal(next(), 'a@2 -b')
      assert.equal(nack(), '-b')
      assert.equal(nack(), 'nothing')
    })

    test('sends a refused version to who subscribes again', () => {
      request({ resource_names_subscribe: ['a'] })
      assert.equal(nack({ resource_names_subscribe: ['a'] }), 'a@1')
    })

    test('holds nothing of a name that was unsubscribed while it was under way', () => {
      request({ resource_names_subscribe: ['a', 'b'] })
      ack({ resource_names_unsubscribe: ['a'] })
      assert.deepEqual([...subscription.held.keys()], ['b'])
    })
  })

  describe('to a client that reconnects', () => {
    test('sends only what is not its version', () => {
      assert.equal(request({ initial_resource_versions: { a: '1', b: '0' } }), 'b@1')
    })

    test('removes what is gone', () => {
      assert.equal(request({ initial_resource_versions: { a: '1', b: '1', gone: '7' } }), '-gone')
    })

    test('does not remove what is to wait', () => {
      offered.set('waiting', 'later')
      assert.equal(request({ initial_resource_versions: { a: '1', b: '1', waiting: '7' } }), '')
      assert.equal(subscription.held.get('waiting')?.version, '7')
    })

    test('does not send names whose version it has', () => {
      const names = { resource_names_subscribe: ['a', 'b'] }
      assert.equal(request({ ...names, initial_resource_versions: { a: '1' } }), 'b@1')
    })

    test('ignores versions of what is not subscribed, and versions in a later request', () => {
      request({ resource_names_subscribe: ['a'], initial_resource_versions: { b: '1' } })
      ack({ initial_resource_versions: { a: '0' } })
      assert.deepEqual(
        [...subscription.held].map(([name, { version }]) => `${name}@${version}`),
        ['a@1'],
      )
    })
  })

  test('sends a name again on demand', () => {
    request({ resource_names_subscribe: ['a'] })
    ack()
    subscription.resend('a')
    subscription.resend('b')
    assert.equal(next(), 'a@1')
  })
})
