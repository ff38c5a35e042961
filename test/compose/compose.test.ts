import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { ENVOY_VERSION } from '../../src/status/version.ts'
import { call, type Reply } from '../support/http.ts'
import { freePort } from '../support/ports.ts'

/** `docker compose --profile demo up`, for real, as a project of its own in a copy of what it needs. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PARTS = [
  'docker-compose.yml',
  'Dockerfile',
  '.dockerignore',
  'package.json',
  'package-lock.json',
  '.npmrc',
]
const FOLDERS = ['proto', 'src', 'demo', 'envoy', 'deploy']
const BASE_IMAGES = ['node:24-slim', `envoyproxy/envoy:v${ENVOY_VERSION}`]
const TOKEN = 'a-token-of-this-test'
const PROJECT = `zonegate-test-${process.pid}`

/** Docker's nameserver gives zone 66 a link-local address, which Zonegate denies. The container there answers. */
const DENIED_ZONE = {
  services: {
    processor: { networks: ['default', 'denied'] },
    envoy: { networks: ['default', 'denied'] },
    zone3: { networks: { denied: { aliases: ['zone66-default.game.test'] } } },
  },
  networks: { denied: { ipam: { config: [{ subnet: '169.254.77.0/28' }] } } },
}

const run = promisify(execFile)
let folder: string
let port: number
let adminPort: number
let httpPort: number
let environment: NodeJS.ProcessEnv

suite('docker compose', { skip: whatIsMissing() ?? false }, () => {
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'zonegate-compose-'))
    for (const part of [...PARTS, ...FOLDERS])
      cpSync(join(ROOT, part), join(folder, part), { recursive: true })
    port = await freePort()
    adminPort = await freePort()
    httpPort = await freePort()
    writeFileSync(join(folder, 'token'), `${TOKEN}\n`, { mode: 0o644 })
    writeFileSync(join(folder, 'docker-compose.override.yml'), JSON.stringify(DENIED_ZONE))
    environment = {
      ...process.env,
      COMPOSE_PROFILES: 'demo',
      ZONEGATE_IMAGE: PROJECT,
      ZONEGATE_SEARCH: 'game.test',
      ZONEGATE_LISTEN: `127.0.0.1:${port}`,
      ZONEGATE_ADMIN_PORT: String(adminPort),
      ZONEGATE_HTTP_PORT: String(httpPort),
      ZONEGATE_TOKEN_FILE: './token',
      ZONEGATE_COMMIT: 'abc1234',
    }
  })
  after(async () => {
    await compose('down', '--volumes', '--remove-orphans', '--timeout', '1')
    await run('docker', ['image', 'rm', PROJECT]).catch(() => undefined) // where it wasn't built
    rmSync(folder, { recursive: true, force: true })
  })

  test('Envoy alone, on a new volume, waits for the files that the processor makes, and says so', async () => {
    await compose('up', '--detach', '--no-deps', 'envoy')
    await eventually(async () =>
      assert.match(await compose('logs', 'envoy'), /waiting for run\/envoy\.yaml, which the processor makes/),
    )
    await assert.rejects(post())
  })

  test('with the processor up, Envoy answers as it should without being touched', async () => {
    const envoy = await containerOf('envoy')
    await compose('up', '--detach', '--build')
    assert.equal(await containerOf('envoy'), envoy)
    await eventually(async () => assert.equal((await post('1')).status, 200))

    const forwarded = await call(port, {
      path: '/pay?x=1',
      headers: [['server', '1']],
      body: 'hello',
    })
    const { zone, path, body, headers } = forwarded.json() as {
      [key: string]: unknown
      headers: Record<string, string>
    }
    assert.deepEqual({ zone, path, body }, { zone: '1', path: '/pay?x=1', body: 'hello' })
    assert.equal(headers['x-forwarded-host'], 'callback.test')
    assert.match(headers['host'] ?? '', /^\d+\.\d+\.\d+\.\d+:8101$/)

    assert.equal((await call(port, { method: 'GET', headers: [['server', '1']] })).status, 405)
    assert.equal((await post()).json()['reason'], 'server_header_missing')
    const unknown = await post('99')
    assert.equal(unknown.status, 502)
    assert.match(String(unknown.json()['reason']), /^name_not_found$|^nameservers_failed$/) // no network: the latter
  })

  test('page, commands and metrics are on the loopback of this machine, for who has the token', async () => {
    const page = `http://127.0.0.1:${httpPort}`
    const authorization = `Bearer ${TOKEN}`
    assert.equal((await fetch(`${page}/api/status`)).status, 401)
    const status = await fetch(`${page}/api/status`, { headers: { authorization } })
    assert.equal(status.status, 200)
    assert.equal((await fetch(`${page}/`)).status, 200) // the page itself holds no secret
    assert.match(await (await fetch(`${page}/metrics`, { headers: { authorization } })).text(), /^zonegate_/m)
    assert.match(await inside('processor', 'zonegate status zones'), /zone1-default\.game\.test|\b1\b/)
    assert.match(
      await inside('processor', 'zonegate version'),
      /^zonegate [\d.]+ \(abc1234\) for Envoy 1\.40\.0/,
    )
  })

  test('without a token they are inside the container only; Prometheus and Grafana are confined, on loopback', async () => {
    const plain = { ...environment, ZONEGATE_TOKEN_FILE: '', COMPOSE_PROFILES: 'observability' }
    const { services } = await configOf(plain)
    const { ZONEGATE_CONFIG: _config, ...settings } = services['processor']?.environment ?? {}
    assert.deepEqual(settings, { ZONEGATE_HTTP: '', ZONEGATE_HTTP_TOKEN_FILE: '' })
    for (const [name, service] of Object.entries(services)) {
      assert.deepEqual([name, service.read_only, service.cap_drop], [name, true, ['ALL']])
      for (const { host_ip } of service.ports ?? []) assert.equal(host_ip, '127.0.0.1', name)
    }
    assert.deepEqual(Object.keys(services).sort(), ['envoy', 'grafana', 'processor', 'prometheus'])
  })

  test('both receivers of zone 2 get requests', async () => {
    const receivers = new Set<unknown>()
    for (let tries = 0; tries < 40 && receivers.size < 2; tries++)
      receivers.add((await post('2')).json()['receiver'])
    assert.equal(receivers.size, 2)
  })

  test('the socket is for owner and group only, and both containers are confined', async () => {
    assert.equal((await inside('envoy', 'stat -c "%a %u:%g" run/processor.sock')).trim(), '660 1000:101')
    for (const [service, user] of [
      ['processor', '1000:101'],
      ['envoy', '101:101'],
    ] as const) {
      assert.equal((await inside(service, 'echo "$(id -u):$(id -g)"')).trim(), user)
      for (const path of ['x', 'envoy/x', '/tmp/x'])
        assert.match(await inside(service, `touch ${path} 2>&1 || true`), /Read-only file system/)
      const status = await inside(service, 'cat /proc/1/status')
      assert.match(status, /CapBnd:\s0+\n/)
      assert.match(status, /NoNewPrivs:\s1\n/)
    }
  })

  test("Envoy's admin interface is on this machine's loopback only, and so is the processor's", async () => {
    assert.equal((await compose('port', 'envoy', '9902')).trim(), `127.0.0.1:${adminPort}`)
    assert.equal((await fetch(`http://127.0.0.1:${adminPort}/ready`)).status, 200)
    const quit = await fetch(`http://127.0.0.1:${adminPort}/quitquitquit`, { method: 'POST' })
    assert.equal(quit.status, 404)
    assert.equal(
      (await compose('ps', 'processor', '--format', '{{.Ports}}')).trim(),
      `127.0.0.1:${httpPort}->9003/tcp`,
    )
  })

  test('routes.yaml is live on save, in place and by rename', async () => {
    const file = join(folder, 'envoy/routes.yaml')
    const original = readFileSync(file, 'utf8')
    const withStatus = (status: number): string => {
      const text = original.replaceAll(
        'direct_response: { status: 400 }',
        `direct_response: { status: ${status} }`,
      )
      assert.notEqual(text, original)
      return text
    }
    const bad = async (): Promise<number> =>
      (await call(port, { headers: [['host', 'a,b']], body: 'x' })).status
    writeFileSync(file, withStatus(410))
    await eventually(async () => assert.equal(await bad(), 410))
    writeFileSync(`${file}.new`, withStatus(418))
    renameSync(`${file}.new`, file)
    await eventually(async () => assert.equal(await bad(), 418))
    writeFileSync(file, original)
    await eventually(async () => assert.equal(await bad(), 400))
  })

  test('listener.yaml is live on save', async () => {
    const listener = join(folder, 'envoy/listener.yaml')
    const original = readFileSync(listener, 'utf8')
    writeFileSync(listener, original.replace('The id header is missing', 'No id'))
    await eventually(async () => assert.equal((await post()).json()['title'], 'No id'))
    writeFileSync(listener, original)
    await eventually(async () => assert.equal((await post()).json()['title'], 'The id header is missing'))
  })

  test('rules are live on save, in place and by rename, and no request fails meanwhile', async () => {
    const file = join(folder, 'deploy/compose/config/zonegate.yaml')
    const original = readFileSync(file, 'utf8')
    const ask = (path: string, headers: readonly (readonly [string, string])[] = []): Promise<Reply> =>
      call(port, { path, headers, body: 'x' })
    const failures: string[] = []
    let [sent, isOver] = [0, false]
    const load = (async () => {
      while (!isOver) {
        sent += 1
        // Each of the rules below finds its id.
        const { status, text } = await ask('/cb/1?zone=1', [['server', '1']])
        if (status !== 200) failures.push(`${status} ${text}`)
      }
    })()
    const rules = [
      ['{ query: zone }', () => ask('/?zone=1')],
      ['{ path: "/cb/{id}" }', () => ask('/cb/1')],
      ['[{ header: zone }, { header: server }]', () => ask('/', [['zone', '1']])],
    ] as const
    for (let change = 0; change < 12; change++) {
      const [id, only] = rules[change % rules.length] as (typeof rules)[number]
      const text = change % 4 === 3 ? 'rules: { id: 5 }\n' : `rules: { id: ${id} }\n`
      if (change % 2 === 0) writeFileSync(file, text)
      else {
        writeFileSync(`${file}.new`, text)
        renameSync(`${file}.new`, file)
      }
      if (change % 4 !== 3) await eventually(async () => assert.equal((await only()).status, 200))
    }
    writeFileSync(file, original)
    await eventually(async () => assert.equal((await post('1')).status, 200))
    isOver = true
    await load
    assert.deepEqual(failures, [], `of ${sent}`)
  })

  test('a processor that was killed fails requests with 502, and its successor serves the same Envoy', async () => {
    await compose('kill', '--signal', 'KILL', 'processor')
    assert.equal((await post('3')).status, 502)
    await compose('start', 'processor')
    await eventually(async () => assert.equal((await post('3')).status, 200))
  })

  test("with the fallback Envoy asks Docker's nameserver while no processor runs, and the next one says so", async () => {
    const file = join(folder, 'deploy/compose/config/zonegate.yaml')
    const original = readFileSync(file, 'utf8')
    writeFileSync(file, 'fallback: { enabled: true }\n')
    await eventually(async () =>
      assert.match(await admin('/config_dump'), /cluster: "?zones_by_name|"cluster": "zones_by_name/),
    )
    for (let times = 0; times < 2; times++) assert.equal((await post('1')).status, 200)
    assert.equal((await post('66')).json()['reason'], 'address_denied')

    await compose('kill', '--signal', 'KILL', 'processor')
    assert.equal((await post('1')).status, 200)
    // Nobody asked for this name before. A zone gets it in `Host` when Envoy resolved it itself.
    const mail = await call(port, { path: '/mail', headers: [['server', '2']], body: 'x' })
    assert.deepEqual([mail.status, mail.json()['zone']], [200, '2'])
    assert.equal((mail.json()['headers'] as Record<string, string>)['host'], 'zone2-mail.game.test:8101')
    for (const id of ['66', '99']) assert.equal((await post(id)).json()['reason'], 'upstream_unreachable', id)

    writeFileSync(file, original)
    await compose('start', 'processor')
    await eventually(async () =>
      assert.match(await inside('processor', 'zonegate status'), /^no processor ran for .*zones_by_name/m),
    )
  })

  test("the operator's configuration is read, and its faults are told; a search domain must be set", async () => {
    mkdirSync(join(folder, 'own'))
    writeFileSync(join(folder, 'own/zonegate.yaml'), 'listen:\n  htp: 1\n')
    const started = run('docker', composeArguments(['run', '--rm', '--no-deps', 'processor']), {
      env: { ...environment, ZONEGATE_CONFIG_DIR: './own' },
    })
    await assert.rejects(started, /zonegate\.yaml:2:3: listen\.htp/)
    const unnamed = run('docker', composeArguments(['run', '--rm', '--no-deps', 'processor']), {
      env: { ...environment, ZONEGATE_SEARCH: '' },
    })
    await assert.rejects(unnamed, /resolv\.conf names no search domain; set dns\.search/)
  })

  // The last one: nothing runs afterwards.
  test('a request in flight while all is stopped is answered', async () => {
    const upload = startUpload('first half, ')
    await eventually(async () => assert.equal(await activeRequests(), 1))
    const stopped = compose('stop', 'envoy', 'processor')
    await eventually(async () => assert.match(await compose('logs', 'envoy'), /requests in flight/))
    const reply = await upload.end('second half')
    await stopped
    assert.equal(reply.status, 200)
    assert.match(reply.text, /"body": "first half, second half"/)
    for (const service of ['envoy', 'processor'])
      assert.equal((await compose('ps', '--all', service, '--format', '{{.ExitCode}}')).trim(), '0')
  })
})

/** Why these tests can't run here; undefined when they can. */
function whatIsMissing(): string | undefined {
  const works = (...args: string[]): boolean => spawnSync('docker', args, { timeout: 10_000 }).status === 0
  if (!works('info')) return 'no Docker engine is reachable here'
  if (!works('compose', 'version')) return 'Docker has no compose command here'
  const absent = BASE_IMAGES.filter((image) => !works('image', 'inspect', image))
  return absent.length === 0 ? undefined : `not here yet, docker pull gets them: ${absent.join(', ')}`
}

function composeArguments(args: readonly string[]): string[] {
  return ['compose', '--project-name', PROJECT, '--project-directory', folder, ...args]
}

/** Standard output of `docker compose ...`; an error carries what it wrote to standard error. */
async function compose(...args: string[]): Promise<string> {
  const options = { env: environment, cwd: folder, timeout: 90_000, maxBuffer: 16 * 1024 * 1024 }
  return (await run('docker', composeArguments(args), options)).stdout
}

interface ComposeService {
  readonly read_only?: boolean
  readonly cap_drop?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly ports?: readonly { readonly host_ip?: string; readonly target: number }[]
}

async function configOf(
  env: NodeJS.ProcessEnv,
): Promise<{ services: Readonly<Record<string, ComposeService>> }> {
  const { stdout } = await run('docker', composeArguments(['config', '--format', 'json']), {
    env,
    cwd: folder,
  })
  return JSON.parse(stdout)
}

function inside(service: string, script: string): Promise<string> {
  return compose('exec', '--no-TTY', service, 'sh', '-c', script)
}

async function containerOf(service: string): Promise<string> {
  return (await compose('ps', '--quiet', service)).trim()
}

function post(id?: string): Promise<Reply> {
  return call(port, { headers: id === undefined ? [] : [['server', id]], body: 'hello' })
}

async function admin(path: string): Promise<string> {
  return (await fetch(`http://127.0.0.1:${adminPort}${path}`)).text()
}

async function activeRequests(): Promise<number> {
  return Number(/: (\d+)/.exec(await admin('/stats?filter=callback.downstream_rq_active'))?.[1])
}

function startUpload(start: string): { end(rest: string): Promise<{ status: number; text: string }> } {
  const outgoing = request({
    port,
    host: '127.0.0.1',
    method: 'POST',
    headers: { server: '1' },
    timeout: 30_000,
  })
  const reply = new Promise<{ status: number; text: string }>((resolve, reject) => {
    outgoing.once('error', reject)
    outgoing.once('timeout', () => outgoing.destroy(new Error('no answer')))
    outgoing.once('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.on('error', reject)
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
    })
  })
  outgoing.write(start)
  return {
    end: (rest) => {
      outgoing.end(rest)
      return reply
    },
  }
}

/** Tries until it holds; the last failure is what is wrong. */
async function eventually(holds: () => Promise<void>, withinMs = 60_000): Promise<void> {
  const deadline = performance.now() + withinMs
  for (;;) {
    try {
      return await holds()
    } catch (error) {
      if (performance.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}
