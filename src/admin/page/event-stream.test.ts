import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'

// The same cases each time: what is drawn at random fails at random. `npm run fuzz` draws others.
fc.configureGlobal({ seed: 1 })

/** Plain JavaScript, without types: what browsers get. */
const { EventStreamParser } = await import(new URL('event-stream.js', import.meta.url).href)

type Event = readonly [type: string, data: string]

function parse(...pieces: readonly string[]): Event[] {
  const events: Event[] = []
  const parser = new EventStreamParser((type: string, data: string) => events.push([type, data]))
  for (const piece of pieces) parser.push(piece)
  return events
}

describe('an event stream', () => {
  const cases: readonly (readonly [what: string, stream: string, events: readonly Event[]])[] = [
    ['has a type and data', 'event: update\ndata: {"a":1}\n\n', [['update', '{"a":1}']]],
    ['without a type is a message', 'data: x\n\n', [['message', 'x']]],
    ['may leave out the space', 'data:x\n\n', [['message', 'x']]],
    ['keeps further spaces', 'data:  x\n\n', [['message', ' x']]],
    ['joins lines of data', 'data: a\ndata: b\n\n', [['message', 'a\nb']]],
    [
      'takes CR and CRLF as line ends',
      'data: a\r\rdata: b\r\n\r\n',
      [
        ['message', 'a'],
        ['message', 'b'],
      ],
    ],
    ['has comments, which say nothing', ': here\n\ndata: x\n\n', [['message', 'x']]],
    ['has fields that are none of ours', 'retry: 2000\nid: 7\nwhat\ndata: x\n\n', [['message', 'x']]],
    ['without data is no event', 'event: update\n\ndata: x\n\n', [['message', 'x']]],
    ['that is not finished is not told', 'data: x\n', []],
  ]
  for (const [what, stream, events] of cases) it(what, () => assert.deepEqual(parse(stream), events))

  it('says the same however it is cut', () => {
    const stream =
      'retry: 1\r\n\r\nevent: a\r\ndata: one\r\ndata: two\r\n\r\n: c\n\ndata: three\r\rdata: four\n\n'
    const whole = parse(stream)
    assert.equal(whole.length, 3)
    fc.assert(
      fc.property(fc.array(fc.nat(stream.length)), (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), stream.length]
        const pieces = at.slice(1).map((end, index) => stream.slice(at[index], end))
        assert.deepEqual(parse(...pieces), whole)
      }),
    )
  })

  it('is given up where an event has no end', () => {
    const piece = 'data: '.padEnd(8 * 1024 * 1024, 'x')
    assert.throws(() => parse(...Array.from({ length: 9 }, () => piece)), /too long/)
  })
})
