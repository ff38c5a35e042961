/**
 * A nameserver that does what it can to the processor, over UDP and TCP, and a good one beside it: 10,000 look-ups end in
 * time, the event loop goes on, memory stays, and the good nameserver's answers arrive.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { HEAP_OPTIONS, MALLOC_ENV, THREAD_OPTIONS } from '../../src/launch/instance.ts'
import type { Asked } from '../support/dns-asker.ts'
import { a, always, frame, type Query, type Script, startNameserver } from '../support/nameserver.ts'

const LOOKUPS = 10_000
const BUDGET_MS = 200
/** One after the other, as fast as they are answered: some 900 where the machine is quiet. */
const ASKED_BESIDE_MIN = 20
const POISON = '10.6.6.6'
const ZEROS = Buffer.alloc(1 << 16)

const poisoned = (query: Query): Buffer => query.response({ answers: [a(query.name, POISON)], edns: null })

function overTcp(script: Script): Script {
  return (query) => (query.transport === 'tcp' ? script(query) : query.reply({ truncated: true }))
}

/** Some megabytes as fast as they are taken; who has closed takes none. */
function stream(query: Query, chunk: Buffer): void {
  let left = 40
  const next = (): void => {
    for (let at = 0; at < 4; at++) query.sendRaw(chunk)
    if (left-- > 0) setTimeout(next, 1)
  }
  next()
}

function slowly(query: Query, octets: Buffer): void {
  let at = 0
  const timer = setInterval(() => {
    query.sendRaw(octets.subarray(at, ++at))
    if (at === 20) clearInterval(timer)
  }, 20)
}

/** 64 KiB of CNAMEs that point to thousands of long names inside the same 16 KiB. */
function longNames(query: Query): Buffer {
  const head = query.response({ edns: null })
  const filler = Buffer.alloc(16_000, 1)
  for (let at = 0; at < filler.length; at++) if (at % 252 >= 250) filler[at] = 0
  const records = [
    Buffer.from([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 1, filler.length >> 8, filler.length & 255]),
    filler,
  ]
  const first = head.length + 12
  for (let at = first; at < first + 6800; at += 2) {
    const [owner, target] = [0xc000 | at, 0xc000 | (at + 1)]
    records.push(
      Buffer.from([owner >> 8, owner & 255, 0, 5, 0, 1, 0, 0, 0, 1, 0, 2, target >> 8, target & 255]),
    )
  }
  head.writeUInt16BE(records.length - 1, 6)
  return Buffer.concat([head, ...records])
}

const stranger = createSocket('udp4')
const asked = new Set<string>()

const TRICKS: Readonly<Record<string, Script>> = {
  'an endless stream of zeros': overTcp((query) => stream(query, ZEROS)),
  'an endless stream of the longest frames': overTcp((query) => {
    query.sendRaw(Buffer.from([0xff, 0xff]))
    stream(query, ZEROS)
  }),
  'zero-length frames before the answer': overTcp((query) =>
    query.sendRaw(Buffer.concat([ZEROS, frame(poisoned(query))])),
  ),
  'frames of 1 to 11 octets': overTcp((query) => {
    for (let length = 1; length < 12; length++) query.send(Buffer.alloc(length))
  }),
  'silence over TCP': overTcp(() => {}),
  'slow octets': overTcp((query) => slowly(query, frame(poisoned(query)))),
  'slow octets of the longest frame': overTcp((query) => slowly(query, Buffer.alloc(20, 0xff))),
  'most of the longest frame, then silence': overTcp((query) => {
    query.sendRaw(Buffer.concat([Buffer.from([0xff, 0xff]), Buffer.alloc(65_000)]))
  }),
  'a TCP answer without the question': overTcp((query) =>
    query.reply({ questions: [], answers: [a(query.name, POISON)] }),
  ),
  'a TCP answer that is cut, too': overTcp((query) => query.reply({ truncated: true })),
  'a connection closed in the middle': overTcp((query) => {
    query.sendRaw(frame(poisoned(query)).subarray(0, 20))
    query.hangUp()
  }),
  'thousands of long names over TCP': overTcp((query) => query.send(longNames(query))),
  'thousands of long names in a datagram': (query) => query.send(longNames(query).subarray(0, 65_000)),
  'thousands of addresses of another name': overTcp((query) =>
    query.reply({ answers: Array.from({ length: 4000 }, () => a('o.test', POISON)), edns: null }),
  ),
  'an answer without the question': (query) =>
    query.reply({ questions: [], answers: [a(query.name, POISON)] }),
  'an error without the question for every id around': (query) => {
    for (let at = -20; at < 20; at++)
      query.reply({ id: (query.message.id + at) & 0xffff, rcode: 5, questions: [], edns: null })
  },
  'FORMERR once, then silence': (query) => {
    if (!asked.has(query.name)) query.reply({ rcode: 1 })
    asked.add(query.name)
  },
  'a flood of wrong ids': (query) => {
    for (let at = 1; at < 60; at++)
      query.reply({ id: (query.message.id + at) & 0xffff, answers: [a(query.name, POISON)] })
  },
  'forged senders': (query) => {
    const { from } = query
    if (from !== null) stranger.send(poisoned(query), from.port, from.address)
  },
  'counts of 65,535': (query) => query.send(Buffer.from(poisoned(query)).fill(0xff, 6, 12)),
}

test(`${LOOKUPS} look-ups of a hostile nameserver end in time, hold up nobody and leave nothing behind`, async () => {
  const tricks = Object.values(TRICKS)
  const hostile = await startNameserver((query) => {
    const [, at] = /^\D+(\d+)\./.exec(query.name) ?? []
    tricks[Number(at) % tricks.length]?.(query)
  })
  const good = await startNameserver(always('10.0.0.1'))
  await new Promise<void>((done) => stranger.bind(0, '127.0.0.1', done))
  const script = fileURLToPath(new URL('../support/dns-asker.ts', import.meta.url))
  // As the processor runs.
  const options = [...HEAP_OPTIONS, ...THREAD_OPTIONS, '--expose-gc']
  const args = [...options, script, hostile.address, good.address, String(LOOKUPS), String(BUDGET_MS)]
  const env = { ...process.env, ...MALLOC_ENV }
  const asker = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    const result = JSON.parse((await asker.stdout.setEncoding('utf8').toArray()).join('')) as Asked
    const said = JSON.stringify(result, null, 1)
    assert.deepEqual(result.bugs, [])
    assert.equal(result.believed, 0, said)
    assert.equal(result.late, 0, said)
    assert.ok(result.longestTurnMs <= 50 * result.slowness, said)
    assert.ok(result.grownMb <= 16, said)
    assert.ok(result.keptMb <= 4, said)
    for (const { asked: all, answered } of [result.good, result.behind]) {
      assert.ok(all > ASKED_BESIDE_MIN, said)
      assert.equal(answered, all, said)
    }
    if (process.env['VERBOSE'] !== undefined) console.log(said)
  } finally {
    asker.kill('SIGKILL')
    stranger.close()
    await Promise.all([hostile.stop(), good.stop()])
  }
})
