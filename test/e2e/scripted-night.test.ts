import assert from 'node:assert/strict'
import type { Socket } from 'node:dgram'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { startNameserver } from '../../demo/nameserver.ts'
import type { HistoryPage } from '../../src/history/read-history.ts'
import type { ExplainedThen } from '../../src/status/explain-then.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, type Reply } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { type CliResult, eventually, runCli } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'

/** A night in which things happen one after the other; in the morning each question is one command. */
const [OLD, NEW] = ['127.0.116.1', '127.0.116.2']
/** Nobody listens there. */
const DEAD = '127.0.116.3'
/** Between two things, so that each moment is told apart: the clock has milliseconds. */
const A_MOMENT_MS = 50

suite('a scripted night', () => {
  const records: Record<string, readonly string[]> = {
    'zone5-default.game.test': [OLD],
    'zone12-default.game.test': [OLD],
    'zone13-default.game.test': [DEAD],
  }
  const at: Record<'failed' | 'beforeMove' | 'moved' | 'refused' | 'killed' | 'away', number> = {
    failed: 0,
    beforeMove: 0,
    moved: 0,
    refused: 0,
    killed: 0,
    away: 0,
  }
  let gateway: TestGateway
  let nameserver: Socket
  let nameserverPort: number
  let receivers: Receiver[] = []
  let port: number

  const post = (id: string, requestId: string): Promise<Reply> =>
    call(gateway.port, {
      headers: [
        ['server', id],
        ['x-request-id', requestId],
      ],
    })
  const cli = (...args: string[]): Promise<CliResult> => runCli(args, gateway.folder)
  const history = async (...args: string[]): Promise<HistoryPage> =>
    JSON.parse((await cli('history', '--json', ...args)).stdout)
  const explainAt = async (id: string, ms: number): Promise<ExplainedThen> =>
    JSON.parse((await cli('explain', '--json', '--id', id, '--at', new Date(ms).toISOString())).stdout)
  const moment = async (): Promise<number> => {
    await new Promise((resolve) => setTimeout(resolve, A_MOMENT_MS))
    const now = Date.now()
    await new Promise((resolve) => setTimeout(resolve, A_MOMENT_MS))
    return now
  }
  const save = (text: string): void => {
    writeFileSync(join(gateway.folder, 'new.yaml'), text)
    renameSync(join(gateway.folder, 'new.yaml'), join(gateway.folder, 'zonegate.yaml'))
  }

  before(async () => {
    port = await freePort(OLD)
    nameserverPort = await freePort()
    nameserver = await startNameserver('127.0.0.1', nameserverPort, records)
    receivers = await Promise.all([OLD, NEW].map((host) => startReceiver(host, port)))
    const dns = {
      nameservers: [`127.0.0.1:${nameserverPort}`],
      search: 'game.test',
      timeoutMs: 300,
      attempts: 1,
    }
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { ...dns, budgetMs: 1000 },
        addresses: { allow: ['127.0.116.0/24'] },
        history: { path: 'run/history.jsonl' },
      },
    })
    await theNight()
  })
  after(async () => {
    await gateway?.stop()
    for (const receiver of receivers) await receiver.close()
    await new Promise<void>((done) => (nameserver === undefined ? done() : nameserver.close(() => done())))
  })

  async function theNight(): Promise<void> {
    assert.equal((await post('5', 'night-5-old')).text, `receiver ${OLD}`)
    await new Promise<void>((done) => nameserver.close(() => done()))
    assert.equal((await post('12', 'night-12-failed')).status, 502)
    at.failed = await moment()
    nameserver = await startNameserver('127.0.0.1', nameserverPort, records)

    at.beforeMove = await moment()
    records['zone5-default.game.test'] = [NEW]
    await eventually('zone 5 has moved', async () => {
      await cli('flush', 'zone5-default.game.test')
      return (await post('5', 'night-5-new')).text === `receiver ${NEW}`
    })
    at.moved = await moment()

    const sound = readFileSync(join(gateway.folder, 'zonegate.yaml'), 'utf8')
    save(`${sound}nonsense: 1\n`)
    await eventually(
      'the configuration is refused',
      async () => (await history('--kind', 'config_refused')).events.length > 0,
    )
    at.refused = await moment()
    save(sound.replace('budgetMs: 1000', 'budgetMs: 900'))
    await eventually(
      'the next one is taken',
      async () => (await history('--kind', 'config')).events.length > 0,
    )
    assert.equal((await cli('pin', '7', OLD, '--for', '1h', '--because', 'a night')).code, 0)

    await eventually('all of it is in the file', () =>
      readFileSync(join(gateway.folder, 'run/history.jsonl'), 'utf8').includes('"kind":"pinned"'),
    )
    await gateway.processor?.stop('SIGKILL')
    at.killed = Date.now()
    await eventually('nobody is there', async () => (await post('99', 'night-99')).status === 502)
    // `alive` is touched each second.
    await new Promise((resolve) => setTimeout(resolve, 300))
    at.away = await moment()
    await new Promise((resolve) => setTimeout(resolve, 300))
    await gateway.startProcessor()
  }

  test('why was id 12 answered 502, when its nameserver failed?', async () => {
    const { decision, steps } = await explainAt('12', at.failed)
    assert.equal(decision.result === 'refuse' && decision.reason, 'nameservers_failed')
    const told = steps.map(({ step, text }) => `${step} ${text}`).join('\n')
    assert.match(told, new RegExp(`dns nameserver 127\\.0\\.0\\.1:${nameserverPort} failed`))
    assert.match(told, /refused refused nameservers_failed .*request night-12-failed/)
    const { code, stdout } = await cli('explain', '--id', '12', '--at', new Date(at.failed).toISOString())
    assert.equal(code, 1)
    assert.match(stdout, /refuse with 502 nameservers_failed/)
    assert.match(stdout, /Way out:/)
  })

  test('where did id 5 go a moment before its zone moved, and after?', async () => {
    const before = await explainAt('5', at.beforeMove)
    assert.deepEqual(before.decision, { result: 'forward', addresses: [`${OLD}:${port}`], path: 'cold' })
    assert.match(before.steps.at(-1)?.text ?? '', new RegExp(`${OLD} -> ${NEW}`), 'and where it went next')
    const then = await explainAt('5', at.moved)
    assert.deepEqual(then.decision.result === 'forward' && then.decision.addresses, [`${NEW}:${port}`])
    const { events } = await history('--zone', '5', '--kind', 'answer')
    // A new configuration of dns, and a new processor, ask again.
    assert.deepEqual(
      events.slice(0, 2).map(({ text }) => text.replace(/ \(.*/, '')),
      [`zone5-default.game.test: ${OLD}`, `zone5-default.game.test: ${OLD} -> ${NEW}`],
    )
  })

  test('who changed it? The configuration with the value before and after, the fault of the refused one, the pin', async () => {
    const { events } = await history('--kind', 'config', '--kind', 'config_refused', '--kind', 'pinned')
    const texts = events.map(({ text }) => text)
    assert.match(
      texts[0] ?? '',
      /^zonegate\.yaml has faults, so the previous configuration stays active: .*nonsense/,
    )
    assert.match(texts[1] ?? '', /^zonegate\.yaml loaded: dns\.budgetMs: 1000 -> 900$/)
    assert.match(texts[2] ?? '', /^7 pinned to 127\.0\.116\.1 by .* because "a night"$/)
    const { config, steps } = await explainAt('5', at.refused)
    assert.ok(config !== null && config.since < at.refused)
    assert.ok(steps.some(({ step, ok, text }) => step === 'config' && !ok && /nonsense/.test(text)))
  })

  test('what was decided while no processor was there, and what is known again after the restart?', async () => {
    const { decision, steps } = await explainAt('99', at.away)
    assert.equal(
      decision.result === 'refuse' && decision.reason,
      'processor_unavailable',
      JSON.stringify(steps),
    )
    assert.match(steps[0]?.text ?? '', /^no processor served for \d+\.\d s; requests that asked got 502$/)
    const pinned = await explainAt('7', Date.now() - 1)
    assert.deepEqual(pinned.decision, { result: 'forward', addresses: [`${OLD}:${port}`], path: 'cold' })
    const seqs = (await history()).events.map(({ seq }) => seq)
    assert.deepEqual(
      seqs,
      seqs.toSorted((a, b) => a - b),
    )
  })

  test('what became of one request, by its line of the access log', async () => {
    const log = join(gateway.folder, 'envoy.log')
    await eventually('its line is written', () => gateway.log('envoy').includes('night-5-old'))
    const moved = await cli('explain', '--request-id', 'night-5-old', '--log', log, '--json')
    const { line, then } = JSON.parse(moved.stdout)
    assert.deepEqual(
      [line.zone, line.path, line.status, line.address],
      ['zone5-default.game.test', 'cold', 200, `${OLD}:${port}`],
    )
    assert.deepEqual(then.decision.addresses, [`${OLD}:${port}`])
    const failed = await cli('explain', '--request-id', 'night-12-failed')
    assert.equal(failed.code, 1)
    assert.match(
      failed.stdout,
      /night-12-failed came at .*, reason nameservers_failed, zone zone12-default\.game\.test/,
    )
    assert.match(failed.stdout, /nameserver .* failed/)
    assert.match(
      (await cli('explain', '--request-id', 'no-such', '--log', log)).stderr,
      /no request "no-such" in /,
    )
  })

  test('why did a request fail that was forwarded? And one without an id or a name?', async () => {
    const log = join(gateway.folder, 'envoy.log')
    assert.equal((await post('13', 'dead')).status, 502)
    await call(gateway.port, { headers: [['x-request-id', 'no-id']] })
    await call(gateway.port, {
      path: '/x?y=1',
      headers: [
        ['server', '404'],
        ['x-request-id', 'no-name'],
      ],
    })
    await eventually('their lines are written', () =>
      ['"dead"', '"no-id"'].every((id) => gateway.log('envoy').includes(id)),
    )
    const dead = await cli('explain', '--request-id', 'dead', '--log', log)
    assert.equal(dead.code, 1)
    assert.match(dead.stdout, /^ {2}ok {2}decision {3}forward to 127\.0\.116\.3:\d+ \(cold\)/m)
    assert.match(dead.stdout, /^ {2}no {2}ended {6}502 upstream_unreachable, details: upstream_reset\S*/m)
    assert.match(dead.stdout, /^Cause: .*\nWay out: /m)
    const noId = await cli('explain', '--request-id', 'no-id', '--log', log)
    assert.equal(noId.code, 1)
    assert.match(noId.stdout + noId.stderr, /reason server_header_missing(?:, path cold)?\n/)
    const noName = await cli('explain', '--request-id', 'no-name')
    assert.equal(noName.code, 1)
    assert.match(noName.stdout + noName.stderr, /: POST \S+\/x, id 404\n/)
  })

  test("who changed Envoy's files? The field with the value before and after, and the fault of a broken save", async () => {
    const file = join(gateway.folder, 'envoy/routes.yaml')
    const sound = readFileSync(file, 'utf8')
    const saveRoutes = (text: string): void => {
      writeFileSync(`${file}.new`, text)
      renameSync(`${file}.new`, file)
    }
    saveRoutes(sound.replace('num_retries: 1', 'num_retries: 3'))
    const told = async (kind: string): Promise<string> => {
      const found = async (): Promise<string> => JSON.stringify((await history('--kind', kind)).events)
      await eventually(`${kind} is told`, async () => (await found()) !== '[]')
      return await found()
    }
    const taken = await told('envoy_files')
    assert.match(taken, /"files":\["envoy\/routes\.yaml"\]/)
    assert.match(taken, /"key":"[^"]*retry_policy\.num_retries","before":"1","after":"3"/)
    saveRoutes(sound.replace('num_retries: 1', 'num_retries: many'))
    const fault = await told('envoy_files_fault')
    assert.match(fault, /envoy\/routes\.yaml:\d+:\d+: .*num_retries: expected a whole number/)
    const { stdout } = await cli('history', '--kind', 'envoy_files')
    assert.match(stdout, /envoy\/routes\.yaml loaded: .*num_retries: "?1"? -> "?3"?/)
  })
})
