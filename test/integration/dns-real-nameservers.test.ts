/** The same code that the scripted nameserver torments, against nameservers that the world runs. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Dns } from '../../src/dns/dns.ts'
import { addressesOf, withDns } from '../support/dns.ts'
import {
  BIG_ANSWER,
  isInstalled,
  NAMESERVER_PROGRAMS,
  withNameserverProgram,
} from '../support/nameserver-programs.ts'

/** A program that starts answers late at first, or with SERVFAIL. */
async function untilUp(dns: Dns): Promise<void> {
  for (let left = 100; ; left--) {
    const { answer } = await dns.explain('zone1.game.test')
    if (answer.kind === 'positive') return
    assert.ok(left > 0, `it does not start: ${JSON.stringify(answer)}`)
    await sleep(30)
  }
}

for (const program of NAMESERVER_PROGRAMS) {
  const skip = isInstalled(program) ? false : `${program.name} is not installed here`
  test(`${program.name} answers every kind of question`, { skip }, async () => {
    await withNameserverProgram(program, async (nameserver) => {
      const options = { nameservers: [nameserver], timeoutMs: 1000, budgetMs: 3000 }
      await withDns(
        [],
        async ({ dns }) => {
          await untilUp(dns)
          assert.deepEqual(addressesOf(await dns.lookup('zone1.game.test')), ['10.0.0.1', '10.0.0.2'], 'A')
          assert.deepEqual(
            addressesOf(await dns.lookup('alias2.game.test')),
            ['10.0.0.1', '10.0.0.2'],
            'CNAMEs',
          )

          const service = await dns.lookup('_pay._tcp.zone1.game.test')
          assert.deepEqual(addressesOf(service), ['10.0.0.1:9001', '10.0.0.2:9001', '10.0.0.3:9002'], 'SRV')
          const none = await dns.lookup('_pay._tcp.zone2.game.test')
          assert.ok(none.kind === 'nodata' && none.notOffered, 'SRV without a target')
          assert.equal((await dns.lookup('_pay._tcp.zone9.game.test')).kind, 'nxdomain')

          const absent = await dns.lookup('zone9.game.test')
          assert.equal(absent.kind, 'nxdomain')
          assert.equal(absent.kind === 'nxdomain' && absent.ttlSeconds, program.sendsSoa ? 17 : 5)

          const { answer, tries } = await dns.explain('big.game.test')
          assert.equal(addressesOf(answer).length, 32)
          assert.ok(addressesOf(answer).every((address) => BIG_ANSWER.includes(address)))
          assert.deepEqual(
            tries.map(({ transport, outcome }) => [transport, outcome]),
            [
              ['udp', 'truncated'],
              ['tcp', 'NOERROR'],
            ],
          )
        },
        options,
      )
      await withDns(
        [],
        async ({ dns }) => {
          assert.deepEqual(addressesOf(await dns.lookup('zone1.game.test')), ['2001:db8::1'], 'AAAA')
          assert.equal((await dns.lookup('ipv4.game.test')).kind, 'nodata')
        },
        { ...options, family: 'ipv6' },
      )
      await withDns(
        [],
        async ({ dns }) => {
          assert.deepEqual(addressesOf(await dns.lookup('alias.game.test')), [
            '10.0.0.1',
            '10.0.0.2',
            '2001:db8::1',
          ])
          assert.deepEqual(addressesOf(await dns.lookup('ipv4.game.test')), ['10.0.0.3'])
        },
        { ...options, family: 'both' },
      )
    })
  })
}
