import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CurlRequest, parseCurl } from './curl-command.ts'
import { CommandFault } from './shell-words.ts'

const GET: CurlRequest = { method: 'GET', path: '/', host: 'h', headers: [], body: '', bodyFile: undefined }
const form = (body: string): CurlRequest => ({
  ...GET,
  method: 'POST',
  headers: ['content-type: application/x-www-form-urlencoded'],
  body,
})

const READ: [title: string, command: string, expected: CurlRequest][] = [
  ['a URL alone', 'curl http://h/a?b=1#c', { ...GET, path: '/a?b=1' }],
  ['a URL without a scheme, with a port', 'curl h:8101', { ...GET, host: 'h:8101' }],
  ['a URL with a password', 'curl https://u:p@h/', GET],
  ['a query without a path', 'curl "http://h?b=1"', { ...GET, path: '/?b=1' }],
  ['curl by its path, and a URL last', '/usr/bin/curl -- http://h', GET],
  ['-X and -H', `curl -X PUT -H 'Server: 12' h`, { ...GET, method: 'PUT', headers: ['Server: 12'] }],
  [
    'short options in one word',
    `curl -sSkXPUT -H'Server: 12' h`,
    { ...GET, method: 'PUT', headers: ['Server: 12'] },
  ],
  ['--url', 'curl --silent --request PATCH --url http://h/x', { ...GET, method: 'PATCH', path: '/x' }],
  ['-d', 'curl -d a=1 h', form('a=1')],
  ['-d twice', 'curl -d a=1 --data b=2 h', form('a=1&b=2')],
  ['-d and a method', 'curl -X PUT -d a=1 h', { ...form('a=1'), method: 'PUT' }],
  [
    '-d with a content type of its own',
    `curl h -H 'content-type: application/json' --data-raw '{"a":"@b"}'`,
    { ...form('{"a":"@b"}'), headers: ['content-type: application/json'] },
  ],
  ['--data-raw with an @', 'curl --data-raw @a h', form('@a')],
  ['--data-urlencode', `curl --data-urlencode 'a=1 &2' --data-urlencode =x/y h`, form('a=1%20%262&x%2Fy')],
  ['--json', `curl --json '{"a":1}' h`, { ...form('{"a":1}'), headers: ['content-type: application/json'] }],
  ['-G', 'curl -G -d a=1 -d b=2 h/x?c=3', { ...GET, path: '/x?c=3&a=1&b=2' }],
  ['--url-query', 'curl --url-query a=1/2 h', { ...GET, path: '/?a=1%2F2' }],
  ['-I', 'curl -I h', { ...GET, method: 'HEAD' }],
  ['-b', `curl -b 'sid=12; a=b' h`, { ...GET, headers: ['cookie: sid=12; a=b'] }],
  ['-F', 'curl -F a=1 h', { ...form(''), headers: ['content-type: multipart/form-data; boundary=-'] }],
  ['a file of data', 'curl -d @order.json h', { ...form(''), bodyFile: 'order.json' }],
  ['-T', 'curl -T order.json h', { ...GET, method: 'PUT', bodyFile: 'order.json' }],
  ['a Host header', 'curl -H "Host: pay.example" h/x', { ...GET, path: '/x', host: 'pay.example' }],
  ['an empty header, and one that is taken away', `curl -H 'A;' -H 'Accept:' h`, { ...GET, headers: ['A:'] }],
  ['-u, -o and the like change nothing', 'curl -u a:b -o out -m 5 --compressed -L h', GET],
  [
    'line continuations',
    `curl 'http://h/x' \\\n  -X POST \\\r\n  --compressed\n`,
    { ...GET, path: '/x', method: 'POST' },
  ],
  [
    'quotes of a shell',
    `curl "h/a\\"b\\$c" -H $'server: 1\\u0032\\x33\\'' -d 'it'\\''s'`,
    {
      ...form("it's"),
      path: '/a"b$c',
      headers: ["server: 123'", 'content-type: application/x-www-form-urlencoded'],
    },
  ],
  [
    'segments of dots are resolved by curl itself',
    'curl h/a/../b/./c/..?x=/../y',
    { ...GET, path: '/b/?x=/../y' },
  ],
  ['--path-as-is', 'curl --path-as-is h/a/../b', { ...GET, path: '/a/../b' }],
  ['-g', 'curl -g h/{a}', { ...GET, path: '/{a}' }],
]
for (const [title, command, expected] of READ)
  test(`curl: ${title}`, () => assert.deepEqual(parseCurl(command), expected))

const REFUSED: [command: string, said: RegExp][] = [
  ['', /begins with curl/],
  ['wget http://h', /begins with curl, got "wget"/],
  ['curl', /no URL/],
  ['curl -X', /-X has no value/],
  ['curl a b', /two URLs, "a" and "b"/],
  ['curl --frobnicate h', /unknown option --frobnicate:/],
  ['curl -Z h', /unknown option -Z:/],
  ['curl --next h', /one/],
  ['curl ftp://h', /a URL of HTTP/],
  ['curl http:///x', /no host/],
  ['curl "h/a b"', /a space/],
  ['curl h/{a,b}', /several requests/],
  ['curl -b cookies.txt h', /names a file/],
  ['curl -H @headers h', /names a file/],
  ['curl --data-urlencode a@b h', /names a file/],
  ['curl h?a=1&b=2', /a & outside of quotes/],
  ['curl h | jq .', /a \| outside of quotes/],
  ['curl -H "server: $ID" h', /\$ID is a variable/],
  ['curl -H "server: $(id)" h', /\$\( runs a command/],
  ['curl `id`', /runs a command/],
  ["curl 'h", /a ' has no end/],
  ['curl "h', /a " has no end/],
  ["curl $'h", /a \$' has no end/],
  ['curl ^"h^"', /for Windows/],
]
for (const [command, said] of REFUSED) {
  test(`no request: ${command}`, () =>
    assert.throws(
      () => parseCurl(command),
      (error) => error instanceof CommandFault && said.test(error.message),
    ))
}

test('a long command takes no long time', () => {
  const startMs = performance.now()
  assert.throws(() => parseCurl(`curl ${'-s '.repeat(400_000)}`), CommandFault)
  assert.equal(parseCurl(`curl h -d '${'x'.repeat(1_000_000)}' -H "${'$ '.repeat(200_000)}"`).method, 'POST')
  assert.ok(performance.now() - startMs < 20_000)
})
