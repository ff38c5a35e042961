import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import type { IdSource } from './id-sources.ts'
import { readId } from './id-sources.ts'
import type { RequestHead } from './request-head.ts'

type Sent = Partial<RequestHead>
/** `id 7`, or why there is none. */
type Expected = `id ${string}` | 'absent' | 'several' | 'unclear'

function sourceOf(place: object): IdSource {
  const [rule] = rulesOf(configSchema.parse({ rules: { id: place } }))
  const [source] = rule?.sources ?? []
  assert.ok(source)
  return source
}

function reading(place: object, sent: Sent): string {
  const head: RequestHead = { method: 'POST', path: '/', authority: 'cb.test', headers: {}, ...sent }
  const found = readId(head, sourceOf(place))
  return found.kind === 'id' ? `id ${found.id}` : found.kind
}

function check(place: object, table: readonly [what: string, sent: Sent, expected: Expected][]): void {
  for (const [what, sent, expected] of table)
    test(`${JSON.stringify(place)}: ${what}: ${expected}`, () => assert.equal(reading(place, sent), expected))
}

const headers = (...values: string[]): Sent => ({ headers: { zone: values } })
check({ header: 'zone' }, [
  ['one value', headers('7'), 'id 7'],
  ['no header', {}, 'absent'],
  ['an empty one', headers(''), 'absent'],
  ["Envoy's word for none", headers('-'), 'absent'],
  ['twice', headers('7', '7'), 'several'],
  ['once empty', headers('', '7'), 'several'],
  ['two in one', headers('7,8'), 'several'],
  ['a comma behind it', headers('7,'), 'several'],
  ['encoded, which no header is', headers('%37'), 'id %37'],
  ['another header', { headers: { zones: ['7'] } }, 'absent'],
])

const query = (text: string): Sent => ({ path: `/pay?${text}` })
check({ query: 'server_id' }, [
  ['one', query('server_id=7'), 'id 7'],
  ['among others', query('a=1&server_id=7&b=2'), 'id 7'],
  ['no query', { path: '/server_id=7' }, 'absent'],
  ['others', query('server=1&server_ids=2&xserver_id=3'), 'absent'],
  ['an empty value', query('server_id='), 'absent'],
  ['no value', query('server_id&a'), 'absent'],
  ['behind a second question mark', { path: '/a?x?server_id=7' }, 'absent'],
  ['an encoded value', query('server_id=%37'), 'id 7'],
  ['an encoded name', query('serv%65r%5Fid=7'), 'id 7'],
  ['a value with an equals sign', query('server_id=7=8'), 'id 7=8'],
  ['a blank behind the value', query('server_id=7+'), 'id 7 '],
  ['a NUL behind the value', query('server_id=7%00'), 'id 7\0'],
  ['no octet in hexadecimal', query('server_id=%g7'), 'id %g7'],
  ['an overlong digit', query('server_id=%c0%b7'), 'id \u00c0\u00b7'],
  ['twice', query('server_id=7&server_id=8'), 'several'],
  ['twice the same', query('server_id=7&server_id=7'), 'several'],
  ['once empty', query('server_id=7&server_id'), 'several'],
  ['twice by encoding', query('serv%65r_id=7&server_id=8'), 'several'],
  ['twice by letter case', query('Server_Id=7&server_id=8'), 'several'],
  ['in another case only', query('SERVER_ID=7'), 'unclear'],
  ['twice to PHP: a list', query('server_id[]=8&server_id=7'), 'several'],
  ['twice to PHP: a key', query('server_id=7&server_id[a]=8'), 'several'],
  ['twice to PHP: an encoded list', query('server_id%5B%5D=8&server_id=7'), 'several'],
  ['twice to PHP: a dot', query('server.id=8&server_id=7'), 'several'],
  ['twice to PHP: a blank', query('server+id=8&server_id=7'), 'several'],
  ['twice to PHP: a bracket', query('server[id=8&server_id=7'), 'several'],
  ['twice to PHP: a blank in front', query('+server_id=8&server_id=7'), 'several'],
  ['twice to PHP: a NUL', query('server_id%00x=8&server_id=7'), 'several'],
  ['twice to ASP.NET: %u', query('%u0073erver_id=8&server_id=7'), 'several'],
  ['a list only', query('server_id[]=7'), 'unclear'],
  ['twice by a semicolon', query('a=1;server_id=8&server_id=7'), 'several'],
  ['by a semicolon only', query('a=1;server_id=8'), 'unclear'],
  ['a semicolon behind it', query('server_id=7;a=1'), 'id 7;a=1'],
])

const cookie = (...values: string[]): Sent => ({ headers: { cookie: values } })
check({ cookie: 'zone' }, [
  ['one', cookie('zone=7'), 'id 7'],
  ['among others', cookie('a=1; zone=7; b=2'), 'id 7'],
  ['without blanks', cookie('a=1;zone=7;b=2'), 'id 7'],
  ['in the second header', cookie('a=1', 'zone=7'), 'id 7'],
  ['no cookie', {}, 'absent'],
  ['others', cookie('zones=1; azone=2'), 'absent'],
  ['an empty value', cookie('zone='), 'absent'],
  ['no value', cookie('zone'), 'absent'],
  ['blanks around it', cookie('a=1;\t zone = 7 '), 'id 7'],
  ['a no-break space, which is no blank', cookie('zone=7\u00a0'), 'id 7\u00a0'],
  ['an encoded value', cookie('zone=%37'), 'id %37'],
  ['quotes', cookie('zone="7"'), 'id "7"'],
  ['in the quotes of another', cookie('a="x; zone=8"; zone=7'), 'several'],
  ['twice', cookie('zone=7; zone=8'), 'several'],
  ['twice, in two headers', cookie('zone=7', 'zone=8'), 'several'],
  ['twice by letter case', cookie('Zone=8; zone=7'), 'several'],
  ['in another case only', cookie('ZONE=7'), 'unclear'],
  ['twice by a comma', cookie('a=1,zone=8; zone=7'), 'several'],
  ['by a comma only', cookie('a=1,zone=8'), 'unclear'],
  ['twice by encoding', cookie('%7Aone=8; zone=7'), 'several'],
  ['twice to PHP', cookie('zone[]=8; zone=7'), 'several'],
])

const path = (text: string): Sent => ({ path: text })
check({ path: '/cb/{id}/*' }, [
  ['there', path('/cb/7/pay'), 'id 7'],
  ['nothing behind', path('/cb/7/'), 'id 7'],
  ['with a query', path('/cb/7/pay?a=/../8'), 'id 7'],
  ['no slash behind', path('/cb/7'), 'absent'],
  ['another path', path('/pay/7/x'), 'absent'],
  ['only in the query', path('/?/cb/7/x'), 'absent'],
  ['no id', path('/cb/'), 'absent'],
  ['a second slash in its place', path('/cb//7/x'), 'unclear'],
  ['a second slash in front', path('//cb/7/x'), 'unclear'],
  ['a second slash behind', path('/cb/7//x'), 'id 7'],
  ['in another case', path('/CB/7/x'), 'unclear'],
  ['an encoded id', path('/cb/%37/x'), 'unclear'],
  ['an encoded slash', path('/cb/7%2fx/y'), 'unclear'],
  ['an encoded slash behind', path('/cb/7/a%2Fb'), 'unclear'],
  ['an encoded path', path('/%63b/7/x'), 'unclear'],
  ['encoded twice', path('/%2563b/7/x'), 'unclear'],
  ['encoded letters behind', path('/cb/7/%20x'), 'id 7'],
  ['a way back', path('/cb/7/../8/x'), 'unclear'],
  ['a way back at the end', path('/cb/7/..'), 'unclear'],
  ['a way back to the same', path('/cb/7/x/../y'), 'unclear'],
  ['a way there', path('/x/../cb/7/y'), 'unclear'],
  ['an encoded way back', path('/cb/7/%2e%2E/8/x'), 'unclear'],
  ['one encoded twice', path('/cb/7/%252e%252e/8/x'), 'unclear'],
  ['one with a parameter', path('/cb/7/..;/8/x'), 'unclear'],
  ['a dot', path('/cb/./7/x'), 'unclear'],
  ['dots in names', path('/cb/7/a..b/.c'), 'id 7'],
  ['a backslash', path('/cb/7/..\\8\\x'), 'unclear'],
  ['a backslash for a slash', path('/cb\\7/x'), 'unclear'],
  ['a parameter', path('/cb;a=1/7/x'), 'unclear'],
  ['a parameter behind it', path('/cb/7;a=1/x'), 'unclear'],
  ['a parameter further behind', path('/cb/7/x;a=1'), 'id 7'],
  ['a dot in it', path('/cb/7.8/x'), 'id 7.8'],
])
check({ path: '/cb/zone{id}-pay' }, [
  ['there', path('/cb/zone7-pay'), 'id 7'],
  ['with hyphens', path('/cb/zone7-8-pay'), 'id 7-8'],
  ['more behind', path('/cb/zone7-pay/x'), 'absent'],
  ['a slash behind', path('/cb/zone7-pay/'), 'absent'],
  ['no id', path('/cb/zone-pay'), 'absent'],
  ['another end', path('/cb/zone7-p'), 'absent'],
])
check({ path: '/Cb;v=1/{id}' }, [
  ['there', path('/Cb;v=1/7'), 'id 7'],
  ['without the parameter', path('/Cb/7'), 'unclear'],
])

const host = (authority: string): Sent => ({ authority })
check({ host: '{id}.cb.example' }, [
  ['there', host('7.cb.example'), 'id 7'],
  ['with a port', host('7.cb.example:8443'), 'id 7'],
  ['with an empty port', host('7.cb.example:'), 'id 7'],
  ['in upper case', host('A7.CB.Example'), 'id a7'],
  ['another host', host('7.example'), 'absent'],
  ['the same without an id', host('cb.example'), 'absent'],
  ['an empty one', host('.cb.example'), 'absent'],
  ['one more label', host('8.7.cb.example'), 'absent'],
  ['more behind', host('7.cb.example.evil'), 'absent'],
  ['none', host(''), 'absent'],
  ['an address', host('[::1]:80'), 'absent'],
  ['a final dot', host('7.cb.example.'), 'unclear'],
  ['a final dot and a port', host('7.cb.example.:80'), 'unclear'],
  ['a user', host('8.cb.example@7.cb.example'), 'unclear'],
  ['an encoded one', host('%37.cb.example'), 'unclear'],
  ['two', host('7.cb.example,8.cb.example'), 'unclear'],
  ['a blank', host('7.cb.example '), 'unclear'],
  ['two ports', host('7.cb.example:1:2'), 'absent'],
])

const FORM = 'application/x-www-form-urlencoded'
const body = (type: string | string[] | undefined, text: string | Buffer, more = {}): Sent => ({
  headers: { ...(type !== undefined && { 'content-type': [type].flat() }), ...more },
  body: Buffer.from(text),
})
check({ form: 'zone' }, [
  ['there', body(FORM, 'a=1&zone=7'), 'id 7'],
  ['in the query', { path: '/?zone=7' }, 'absent'],
  ['in another case of the type', body('Application/X-WWW-Form-Urlencoded', 'zone=7'), 'id 7'],
  ['with a charset', body(`${FORM}; charset=UTF-8`, 'zone=7'), 'id 7'],
  ['with a quoted charset', body(`${FORM};charset="utf-8"`, 'zone=7'), 'id 7'],
  ['in EBCDIC', body(`${FORM}; charset=ibm037`, 'zone=7'), 'unclear'],
  ['in UTF-16', body(`${FORM}; a=b; charset=utf-16`, 'zone=7'), 'unclear'],
  ['with a word behind the type', body(`${FORM} x`, 'zone=7'), 'unclear'],
  ['with a second type behind it', body(`${FORM}, text/plain`, 'zone=7'), 'unclear'],
  ['with a second type in front', body(`text/plain, ${FORM}`, 'zone=7'), 'unclear'],
  ['with two types', body([FORM, FORM], 'zone=7'), 'unclear'],
  ['without a type', body(undefined, 'zone=7'), 'unclear'],
  ['with an empty type', body('', 'zone=7'), 'unclear'],
  ['in parts', body('multipart/form-data; boundary=x', 'zone=7'), 'absent'],
  ['in JSON', body('application/json', '{"zone":"7"}'), 'absent'],
  ['packed', body(FORM, 'zone=7', { 'content-encoding': ['gzip'] }), 'unclear'],
  ['no body', { headers: { 'content-type': [FORM] } }, 'absent'],
  ['an empty body', body(FORM, ''), 'absent'],
  ['no body and no type', {}, 'absent'],
  ['twice', body(FORM, 'zone=7&zone=7'), 'several'],
  ['twice by encoding', body(FORM, '%7aone=8&zone=7'), 'several'],
  ['twice to PHP', body(FORM, 'zone[]=8&zone=7'), 'several'],
  ['octets above 127', body(FORM, Buffer.from([0x7a, 0xff, 0x26, ...Buffer.from('zone=7')])), 'id 7'],
])

const JSON_TYPE = 'application/json'
check({ json: '/a/zone' }, [
  ['there', body(JSON_TYPE, '{"a":{"zone":"7"}}'), 'id 7'],
  ['a number', body(JSON_TYPE, '{"a":{"zone":7}}'), 'id 7'],
  ['of a type with a suffix', body('application/vnd.x+json', '{"a":{"zone":7}}'), 'id 7'],
  ['of the old type', body('text/json; charset=utf-8', '{"a":{"zone":7}}'), 'id 7'],
  ['of another type', body('text/plain', '{"a":{"zone":7}}'), 'absent'],
  ['without a type', body(undefined, '{"a":{"zone":7}}'), 'unclear'],
  ['in UTF-7', body('application/json; charset=utf-7', '{"a":{"zone":7}}'), 'unclear'],
  [
    'no UTF-8',
    body(JSON_TYPE, Buffer.from([...Buffer.from('{"a":{"zone":7},"'), 0xff, ...Buffer.from('":1}')])),
    'unclear',
  ],
  ['in UTF-16', body(JSON_TYPE, Buffer.from('{"a":{"zone":7}}', 'utf16le')), 'unclear'],
  ['a byte order mark', body(JSON_TYPE, '\ufeff{"a":{"zone":7}}'), 'unclear'],
  ['packed', body(JSON_TYPE, '{"a":{"zone":7}}', { 'content-encoding': ['gzip'] }), 'unclear'],
  ['no JSON', body(JSON_TYPE, 'a[zone]=7'), 'unclear'],
  ['not there', body(JSON_TYPE, '{"a":{"b":7}}'), 'absent'],
  ['no body', { headers: { 'content-type': [JSON_TYPE] } }, 'absent'],
])
