import assert from 'node:assert/strict'
import { test } from 'node:test'
import { jsonMember } from './body-ids.ts'

function reading(text: string, ...steps: string[]): string {
  const found = jsonMember(text, steps)
  return found.kind === 'id' ? `id ${found.id}` : found.kind
}

const MEMBERS: [what: string, text: string, steps: string[], expected: string][] = [
  ['a text', '{"a":"7"}', ['a'], 'id 7'],
  ['an integer', '{"a":7}', ['a'], 'id 7'],
  ['zero', '{"a":0}', ['a'], 'id 0'],
  ['15 digits', '{"a":123456789012345}', ['a'], 'id 123456789012345'],
  ['16 digits, which some receivers round', '{"a":9007199254740993}', ['a'], 'unclear'],
  ['a fraction', '{"a":7.0}', ['a'], 'unclear'],
  ['an exponent', '{"a":1e1}', ['a'], 'unclear'],
  ['a sign', '{"a":-1}', ['a'], 'unclear'],
  ['minus zero', '{"a":-0}', ['a'], 'unclear'],
  ['null', '{"a":null}', ['a'], 'unclear'],
  ['true', '{"a":true}', ['a'], 'unclear'],
  ['a list', '{"a":["7"]}', ['a'], 'unclear'],
  ['an empty list', '{"a":[]}', ['a'], 'unclear'],
  ['an object', '{"a":{"a":"7"}}', ['a'], 'unclear'],
  ['an empty text', '{"a":""}', ['a'], 'absent'],
  ['an escaped text', '{"a":"\\u0037"}', ['a'], 'id 7'],
  ['a text with a quote', '{"a":"7\\"","b":1}', ['a'], 'id 7"'],
  ['a text that ends with a backslash', '{"b":"\\\\","a":"7"}', ['a'], 'id 7'],
  ['marks in a text', '{"b":"},\\"a\\":\\"8\\"{","a":"7"}', ['a'], 'id 7'],
  ['blanks', ' {\t"a"\r\n:\n"7" } ', ['a'], 'id 7'],
  ['not there', '{"b":"7"}', ['a'], 'absent'],
  ['an empty object', '{}', ['a'], 'absent'],
  ['further in', '{"a":{"b":{"c":"7"}}}', ['a', 'b', 'c'], 'id 7'],
  ['not so far in', '{"a":"7"}', ['a', 'b'], 'absent'],
  ['beside the way', '{"b":{"b":"8"},"a":{"c":"7"}}', ['a', 'c'], 'id 7'],
  ['of a list', '{"a":["6","7","8"]}', ['a', '1'], 'id 7'],
  ['of an object in a list', '[{"b":"6"},{"b":"7"}]', ['1', 'b'], 'id 7'],
  ['behind lists in a list', '[[1,2],[[3]],{"b":"7"}]', ['2', 'b'], 'id 7'],
  ['behind the end of a list', '["6"]', ['1'], 'absent'],
  ['of an object with a number for a name', '{"1":"7"}', ['1'], 'id 7'],
  ['a number that no index is written as', '["6","7"]', ['01'], 'absent'],
  ['the end of a list, which has no value', '["6"]', ['-'], 'absent'],
  ['a name with a slash', '{"a/b":"7"}', ['a/b'], 'id 7'],
  ['a name with a tilde', '{"~1":"7"}', ['~1'], 'id 7'],
  ['an escaped name', '{"\\u0061":"7"}', ['a'], 'id 7'],
  ['__proto__', '{"__proto__":"7"}', ['__proto__'], 'id 7'],
  ['a text alone', '"7"', ['a'], 'absent'],
  ['a number alone', '7', ['a'], 'absent'],
  ['twice', '{"a":"7","a":"8"}', ['a'], 'several'],
  ['twice the same', '{"a":"7","a":"7"}', ['a'], 'several'],
  ['twice, first another type', '{"a":{},"a":"7"}', ['a'], 'several'],
  ['twice by escapes', '{"a":"7","\\u0061":"8"}', ['a'], 'several'],
  ['twice by letter case', '{"a":"7","A":"8"}', ['a'], 'several'],
  ['twice to Go: the long s', '{"as":"7","a\\u017f":"8"}', ['as'], 'several'],
  ['twice to Go: the sign of Kelvin', '{"k":"7","\\u212a":"8"}', ['k'], 'several'],
  ['twice to C: a NUL', '{"a":"7","a\\u0000b":"8"}', ['a'], 'several'],
  ['in another case only', '{"A":"7"}', ['a'], 'unclear'],
  ['twice on the way', '{"a":{"b":"7"},"a":{"c":"8"}}', ['a', 'b'], 'several'],
  ['twice in an object on the way', '{"a":{"b":"7","b":"8"}}', ['a', 'b'], 'several'],
  ['another twice beside it', '{"x":1,"a":"7","x":2}', ['a'], 'id 7'],
  ['twice beside the way', '{"x":{"a":"8","a":"9"},"a":"7"}', ['a'], 'id 7'],
  ['twice in another object of a list', '[{"a":"8","a":"9"},{"a":"7"}]', ['1', 'a'], 'id 7'],
  ['a byte order mark', '\ufeff{"a":"7"}', ['a'], 'unclear'],
  ['a comment', '{"a":"7"/* */}', ['a'], 'unclear'],
  ['a comma at the end', '{"a":"7",}', ['a'], 'unclear'],
  ['single quotes', "{'a':'7'}", ['a'], 'unclear'],
  ['two values', '{"a":"7"}{"a":"8"}', ['a'], 'unclear'],
  ['cut off', '{"a":"7"', ['a'], 'unclear'],
  ['a zero in front', '{"a":07}', ['a'], 'unclear'],
  ['nothing', '', ['a'], 'unclear'],
]
for (const [what, text, steps, expected] of MEMBERS)
  test(`a member by its pointer: ${what}: ${expected}`, () => assert.equal(reading(text, ...steps), expected))

const LARGE: [what: string, text: string, expected: string][] = [
  ['10,000 lists in each other', `{"b":${'['.repeat(10_000)}${']'.repeat(10_000)},"a":"7"}`, 'id 7'],
  ['500,000 lists in each other', `${'['.repeat(500_000)}`, 'unclear'],
  [
    'objects as deep as 64 KiB allow',
    `{"b":${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)},"a":"7"}`,
    'id 7',
  ],
  ['a text of 1 MiB', `{"b":"${'x'.repeat(1_048_576)}","a":"7"}`, 'id 7'],
  ['escapes of 1 MiB', `{"b":"${'\\n'.repeat(524_288)}","a":"7"}`, 'id 7'],
  ['a text of 1 MiB without an end', `{"b":"${'\\"'.repeat(524_288)}`, 'unclear'],
  ['100,000 names', `{${Array.from({ length: 100_000 }, (_, at) => `"n${at}":1`)},"a":"7"}`, 'id 7'],
  ['1 MiB of blanks', `{${' '.repeat(1_048_576)}"a":"7"}`, 'id 7'],
]
for (const [what, text, expected] of LARGE)
  test(`${what}: read to the end, in a time that its length bounds`, () => {
    const { user } = process.cpuUsage()
    assert.equal(reading(text, 'a'), expected)
    const tookMs = process.cpuUsage({ user, system: 0 }).user / 1000
    assert.ok(tookMs < 2000, `${tookMs} ms`)
  })
