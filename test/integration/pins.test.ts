import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import type { Status } from '../../src/status/status.ts'
import { type CliResult, eventually, startProcessorAlone, type TestProcessor } from '../support/processor.ts'

/** Pins by command: who may, what is refused, and what is left after a restart. */
const TOKEN = 'a-token-of-this-test'
// Days, because the time left is asserted in whole ones: a slow machine may take minutes.
const FOR = ['--for', '7d', '--because', 'disk full', '--by', 'ada']

suite('pins by command', () => {
  let processor: TestProcessor
  before(async () => {
    processor = await start()
  })
  after(() => processor?.stop())

  const start = () =>
    startProcessorAlone({
      config: { rules: { services: { mail: { paths: ['/mail'] }, default: {} } }, zones: { 7: { as: '8' } } },
      listen: { httpToken: TOKEN },
    })
  const pin = (...args: string[]): Promise<CliResult> => processor.cli(['pin', ...args])
  const headers = { authorization: `Bearer ${TOKEN}` }
  const pins = async (): Promise<Status['pins']> =>
    (await processor.ask('/api/status', { headers })).json().pins
  const explained = async (id: string): Promise<string> => {
    const { stdout } = await processor.cli(['explain', '--id', id])
    return stdout
  }
  const restart = async (): Promise<void> => {
    const { folder } = processor
    const kept = readdirSync(join(folder, 'run')).filter((name) => name.startsWith('pins.json'))
    const texts = kept.map((name) => [name, readFileSync(join(folder, 'run', name), 'utf8')] as const)
    await processor.stop()
    processor = await startProcessorAlone({
      config: { rules: { services: { mail: { paths: ['/mail'] }, default: {} } }, zones: { 7: { as: '8' } } },
      listen: { httpToken: TOKEN },
      prepare: (next) => {
        mkdirSync(join(next, 'run'), { recursive: true })
        for (const [name, text] of texts) writeFileSync(join(next, 'run', name), text)
      },
    })
  }

  test('a pin is in force at once, and told with who, because of what and until when', async () => {
    const { code, stdout } = await pin('12', '10.0.0.5', '10.0.0.6:9000', ...FOR)
    assert.equal(code, 0)
    assert.match(stdout, /^pinned: 12 to 10\.0\.0\.5, 10\.0\.0\.6:9000 until \d{4}-\S+ \S+ UTC\n$/)
    assert.match(
      await explained('12'),
      /pinned to 10\.0\.0\.5:8101, 10\.0\.0\.6:9000, by ada until \S+ \S+ UTC, because "disk full"; DNS is not asked/,
    )
    // By the file, where no processor is asked.
    const offline = await processor.cli(['explain', '--id', '12', '--offline'])
    assert.match(offline.stdout, /pinned to 10\.0\.0\.5:8101, 10\.0\.0\.6:9000, by ada/)
    const list = await processor.cli(['pins'])
    assert.match(list.stdout, /^12 +10\.0\.0\.5, 10\.0\.0\.6:9000 +7 d +ada +disk full$/m)
    const { text } = await processor.ask('/metrics', { headers })
    assert.match(text, /^zonegate_pins 1$/m)
    assert.match(text, /^zonegate_pin_oldest_timestamp_seconds \d+/m)
  })

  test('a zone that is merged into it goes there, too', async () => {
    await pin('8', '10.0.0.8', ...FOR)
    assert.match(await explained('7'), /"7" is merged into "8" \(zones\.7\)[\s\S]*pinned to 10\.0\.0\.8/)
    assert.equal((await processor.cli(['unpin', '8'])).code, 0)
    assert.doesNotMatch(await explained('7'), /pinned/)
  })

  test('for one service', async () => {
    assert.equal((await pin('mail/13', '10.0.0.13', ...FOR)).code, 0)
    assert.doesNotMatch(await explained('13'), /pinned/)
    assert.match(
      (await processor.cli(['explain', '--id', '13', '--path', '/mail'])).stdout,
      /pinned to 10\.0\.0\.13/,
    )
    assert.equal((await processor.cli(['unpin', 'mail/13'])).code, 0)
  })

  const REFUSED: [what: string, args: string[], expected: RegExp][] = [
    [
      'a denied address: metadata',
      ['14', '169.254.169.254'],
      /addresses\.allow doesn't let 169\.254\.169\.254 through/,
    ],
    [
      'a denied address: loopback',
      ['14', '10.0.0.1', '127.0.0.1:80'],
      /addresses\.allow doesn't let 127\.0\.0\.1/,
    ],
    ['a denied address: inside IPv6', ['14', '::ffff:127.0.0.1'], /addresses\.allow doesn't let/],
    ['a name', ['14', 'evil.example'], /expected an address/],
    ['an id that is none', ['a.b', '10.0.0.1'], /expected ids/],
    ['a range', ['1-5', '10.0.0.1'], /expected one zone/],
    ['every id', ['*', '10.0.0.1'], /expected/],
    ['a service that is none', ['nosuch/1', '10.0.0.1'], /expected a service or a rule/],
  ]
  for (const [what, args, expected] of REFUSED)
    test(`refused at the command: ${what}`, async () => {
      const { code, stderr } = await pin(...args, ...FOR)
      assert.equal(code, 1)
      assert.match(stderr, expected)
      assert.ok(!(await pins()).pins.some(({ zone }) => zone === args[0]))
    })

  const WRONG: [what: string, args: string[], expected: RegExp][] = [
    ['no address', ['12', ...FOR], /expected ZONE ADDRESS/],
    ['no time', ['12', '10.0.0.1', '--because', 'x'], /expected --for/],
    [
      'no reason',
      ['12', '10.0.0.1', '--for', '1h'],
      /expected --because; "zonegate pin --help" lists the options/,
    ],
    ['neither time nor reason', ['12', '10.0.0.1'], /expected --for and --because; /],
    ['a time that is none', ['12', '10.0.0.1', '--for', '1y', '--because', 'x'], /--for: expected a time/],
    ['a time that is too long', ['12', '10.0.0.1', '--for', '32d', '--because', 'x'], /31 days at most/],
  ]
  for (const [what, args, expected] of WRONG)
    test(`a wrong command line: ${what}`, async () => {
      const { code, stderr } = await pin(...args)
      assert.equal(code, 2)
      assert.match(stderr, expected)
    })

  test('the socket is for its owner only, and no token of listen.http pins', async () => {
    const socket = join(processor.folder, 'run/pins.sock')
    assert.equal(statSync(socket).mode & 0o777, 0o600)
    for (const path of ['/pin', '/unpin', '/api/pin', '/api/unpin', '/api/pins'])
      for (const method of ['POST', 'PUT', 'DELETE']) {
        const body = JSON.stringify({
          zone: '66',
          addresses: ['10.0.0.1'],
          forSeconds: 60,
          because: 'x',
          who: 'x',
        })
        const { status } = await processor.ask(path, { method, headers, body })
        assert.ok(status === 404 || status === 405, `${method} ${path}: ${status}`)
      }
    assert.ok(!(await pins()).pins.some(({ zone }) => zone === '66'))
  })

  const isRoot = process.getuid?.() === 0
  test('the socket refuses another user', { skip: !isRoot && 'needs root, to be another user' }, () => {
    const script = `require('net').connect(process.argv[1]).on('connect', () => process.exit(0)).on('error', (e) => { console.log(e.code); process.exit(9) })`
    const socket = join(processor.folder, 'run/pins.sock')
    spawnSync('chmod', ['755', processor.folder])
    const { status, stdout } = spawnSync(
      '/bin/sh',
      ['-c', 'exec "$0" -e "$1" "$2"', process.execPath, script, socket],
      {
        uid: 65_534,
        gid: 65_534,
        encoding: 'utf8',
      },
    )
    assert.notEqual(status, 0)
    if (stdout !== '') assert.equal(stdout.trim(), 'EACCES')
  })

  test('a pin ends by itself, and a restart keeps the others', async () => {
    assert.equal((await pin('15', '10.0.0.15', '--for', '2s', '--because', 'short', '--by', 'ada')).code, 0)
    await eventually('it is over', async () => !(await pins()).pins.some(({ zone }) => zone === '15'))
    assert.doesNotMatch(await explained('15'), /pinned/)
    await restart()
    assert.deepEqual(
      (await pins()).pins.map(({ zone, who, because }) => [zone, who, because]),
      [['12', 'ada', 'disk full']],
    )
    assert.match(await explained('12'), /pinned to 10\.0\.0\.5/)
  })

  const TORN: [what: string, change: (text: string) => string, left: string[], why: RegExp][] = [
    ['cut off', (text) => text.slice(0, -20), [], /is not JSON/],
    ['empty', () => '', [], /is not JSON/],
    ['of another kind', () => '[]', [], /has no list "pins"/],
    [
      'with a pin that is none',
      (text) => text.replace('"pins": [', '"pins": [{ "zone": "a b" },'),
      ['12'],
      /has 1 invalid pins; 1 pins are in force/,
    ],
  ]
  for (const [what, change, left, why] of TORN)
    test(`a file ${what} is told, kept, and loses nothing that is sound`, async () => {
      const { folder } = processor
      const path = join(folder, 'run/pins.json')
      if ((await pins()).pins.length === 0) await pin('12', '10.0.0.5', ...FOR)
      const text = change(readFileSync(path, 'utf8'))
      writeFileSync(path, text)
      await restart()
      const status = await pins()
      assert.deepEqual(
        status.pins.map(({ zone }) => zone),
        left,
      )
      assert.match(status.fault ?? '', why)
      assert.equal(readFileSync(join(processor.folder, 'run/pins.json.at-fault'), 'utf8'), text)
      assert.match((await processor.ask('/metrics', { headers })).text, /^zonegate_pins_fault 1$/m)
      if (left.length > 0) assert.ok(existsSync(join(processor.folder, 'run/pins.json')))
      rmSync(join(processor.folder, 'run/pins.json.at-fault'))
    })

  test('where the file can not be written a pin is in force, and the command says what a restart does', async () => {
    const path = join(processor.folder, 'run/pins.json')
    rmSync(path, { force: true })
    mkdirSync(join(path, 'in the way'), { recursive: true })
    const { code, stdout, stderr } = await pin('16', '10.0.0.16', ...FOR)
    assert.equal(code, 1)
    assert.match(stdout, /^pinned: 16/)
    assert.match(
      stderr,
      /this is in force now, but a restart would undo it: run\/pins\.json: can't be written \(E\w+/,
    )
    assert.match(await explained('16'), /pinned to 10\.0\.0\.16/)
    rmSync(path, { recursive: true })
    assert.equal((await processor.cli(['unpin', '16'])).code, 0)
    assert.equal((await pins()).fault, null)
  })

  test('no processor, and no such pin: the command says so', async () => {
    const gone = await processor.cli(['unpin', '99'])
    assert.deepEqual(
      [gone.code, gone.stderr],
      [1, 'zonegate: there is no pin of "99"; "zonegate pins" lists all pins\n'],
    )
    const nobody = await processor.cli(['pin', '12', '10.0.0.1', ...FOR, '--socket', 'run/none.sock'])
    assert.equal(nobody.code, 1)
    assert.match(nobody.stderr, /no processor answers on run\/none\.sock \(ENOENT\)/)
  })
})
