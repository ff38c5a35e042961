import assert from 'node:assert/strict'
import { BlockList, isIPv4 } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { withoutRanges } from './cidr.ts'

const CASES: [title: string, cidrs: string[], others: string[], left: string[]][] = [
  ['nothing is taken out', ['10.0.0.0/8'], [], ['10.0.0.0/8']],
  ['the other family', ['10.0.0.0/8'], ['::/0'], ['10.0.0.0/8']],
  ['all of it', ['127.0.0.0/8', '::1/128'], ['0.0.0.0/0', '::/0'], []],
  ['the same', ['127.0.0.0/8'], ['127.0.0.0/8'], []],
  ['a half', ['10.0.0.0/8'], ['10.128.0.0/9'], ['10.0.0.0/9']],
  ['one address of four', ['10.0.0.0/30'], ['10.0.0.2/32'], ['10.0.0.0/31', '10.0.0.3/32']],
  ['a CIDR with bits behind its prefix', ['10.1.2.3/8'], ['10.200.9.9/9'], ['10.0.0.0/9']],
  ['IPv4 inside IPv6', ['::ffff:127.0.0.0/104'], ['::ffff:127.128.0.0/105'], ['0:0:0:0:0:ffff:7f00:0/105']],
  ['IPv6', ['fe80::/10'], ['fe80::/11'], ['fea0:0:0:0:0:0:0:0/11']],
]
for (const [title, cidrs, others, left] of CASES)
  test(`CIDRs without others: ${title}`, () => assert.deepEqual(withoutRanges(cidrs, others), left))

test('an address is left where it is in one of the CIDRs, and in none of the others', () => {
  const octet = fc.integer({ min: 0, max: 3 })
  const cidr = fc
    .tuple(octet, octet, fc.integer({ min: 0, max: 32 }))
    .map(([a, b, prefix]) => `10.${a * 64}.0.${b * 64}/${prefix}`)
  const listOf = (cidrs: readonly string[]): BlockList => {
    const list = new BlockList()
    for (const one of cidrs) {
      const [address = '', prefix = ''] = one.split('/')
      assert.ok(isIPv4(address))
      list.addSubnet(address, Number(prefix))
    }
    return list
  }
  fc.assert(
    fc.property(
      fc.array(cidr, { maxLength: 4 }),
      fc.array(cidr, { maxLength: 4 }),
      fc.ipV4(),
      (cidrs, others, ip) => {
        const near = ip.replace(/^\d+/, '10')
        const left = listOf(withoutRanges(cidrs, others))
        for (const address of [ip, near])
          assert.equal(left.check(address), listOf(cidrs).check(address) && !listOf(others).check(address))
      },
    ),
  )
})
