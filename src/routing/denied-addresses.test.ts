import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addressPolicy } from './denied-addresses.ts'

const DENIED = [
  '127.0.0.1',
  '127.255.255.254',
  '0.0.0.0',
  '0.1.2.3',
  '169.254.0.1',
  '169.254.169.254',
  '224.0.0.1',
  '239.255.255.255',
  '255.255.255.255',
  '::',
  '::1',
  'fe80::1',
  'febf::1',
  'ff02::1',
  'fd00:ec2::254',
  'fd00:ec2::23',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
  'fd20:ce::254',
  'fd00:c1::a9fe:a9fe',
  'fd00:42::42',
  '64:ff9b:1::a9fe:a9fe',
  '64:ff9b:1:ffff::1',
  '2002:7f00:1::',
  '2002:a9fe:a9fe::1',
  '2001:0:a00:1::1',
  '::ffff:0:127.0.0.1',
  '::ffff:100.100.100.200',
  '64:ff9b::168.63.129.16',
  '::ffff:127.0.0.1',
  '::ffff:7f00:1',
  '::ffff:169.254.169.254',
  '::ffff:0.0.0.0',
  '::127.0.0.1',
  '64:ff9b::a9fe:a9fe',
  '64:ff9b::127.0.0.1',
]
const ADMITTED = [
  '10.0.0.1',
  '192.168.1.1',
  '172.16.0.1',
  '8.8.8.8',
  '1.2.3.4',
  '2001:db8::1',
  'fd00::1',
  '::ffff:10.0.0.1',
  '64:ff9b::a00:1',
  '64:ff9b:2::1',
  '2001:1::1',
  '100.100.100.201',
  '168.63.129.17',
  'fd20:ce::253',
]

for (const address of DENIED)
  test(`${address} is denied`, () => assert.equal(addressPolicy([])(address), false))
for (const address of ADMITTED)
  test(`${address} is admitted`, () => assert.equal(addressPolicy([])(address), true))

test('what is no address is denied', () =>
  assert.equal(addressPolicy(['0.0.0.0/0', '::/0'])('localhost'), false))

test('an allowed CIDR lets through its own addresses and no other', () => {
  const admit = addressPolicy(['127.0.2.0/24', 'fe80::/64'])
  assert.deepEqual(
    ['127.0.2.9', '::ffff:127.0.2.9', '127.0.3.1', 'fe80::1', 'fe80:0:0:1::1', '169.254.169.254'].map(admit),
    [true, true, false, true, false, false],
  )
})
