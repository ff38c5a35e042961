import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { ensureEnvoy } from '../../src/launch/envoy-binary.ts'
import { call } from '../support/http.ts'
import {
  type Manifest,
  mountAtomically,
  noKustomize,
  parseManifests,
  renderManifests,
} from '../support/kubernetes.ts'
import { freePort } from '../support/ports.ts'
import { ask, eventually, INHERITED, runCli } from '../support/processor.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/**
 * A pod of deploy/kubernetes without a cluster. Commands, arguments and environment are the rendered ones, and volumes change
 * as the kubelet changes them. Only ports and folders differ.
 */
const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const TOKEN = 'a-token-of-sixteen-characters'
const SCRAPE = { headers: { authorization: `Bearer ${TOKEN}` } }

let folder: string
let nameserver: ZoneNameserver
let slow: Server
let manifests: Manifest[]
let processor: ChildProcess
let envoy: ChildProcess
let ports: Record<'8101' | '9901' | '9902' | '9003', number>
let zonePort: number

suite('a pod of deploy/kubernetes', { skip: noKustomize() }, () => {
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'zonegate-pod-'))
    zonePort = await freePort('127.0.71.1')
    slow = createServer((_, response) => void setTimeout(() => response.end('slow'), 2000))
    await new Promise<void>((done) => slow.listen(zonePort, '127.0.71.1', done))
    nameserver = await startZoneNameserver({ 'zone1-default.game.test': ['127.0.71.1'] })
    ports = { 8101: await freePort(), 9901: await freePort(), 9902: await freePort(), 9003: await freePort() }
    manifests = parseManifests(renderManifests())
    for (const volume of spec().volumes) mountVolume(volume)
    await startContainers()
  })
  after(async () => {
    processor?.kill('SIGKILL')
    if (envoy?.exitCode === null) process.kill(-(envoy.pid ?? 0), 'SIGKILL') // the script's, and Envoy's
    await nameserver?.close()
    slow?.close()
    slow?.closeAllConnections()
    rmSync(folder, { recursive: true, force: true })
  })

  const spec = (): Manifest => manifests.find(({ kind }) => kind === 'Deployment').spec.template.spec
  /** Replaces the pod's ports and addresses by this test's. */
  const local = (text: string): string =>
    text.replace(/\b(8101|9901|9902|9003)\b/g, (port) => String(ports[port as keyof typeof ports]))
  const dataOf = (name: string): Record<string, string> => {
    const { data } = manifests.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === name)
    return Object.fromEntries(Object.entries<string>(data).map(([file, text]) => [file, local(text)]))
  }
  const zonegateYaml = (search: string, id = '{ header: server }', learned = false): string =>
    `dns: { search: ${search}, nameservers: ["${nameserver.address}"] }\n` +
    `rules: { port: ${zonePort}, id: ${id} }\naddresses: { allow: [127.0.71.0/24] }\nlearned: { enabled: ${learned} }\n`
  /** The scratch folder is what a container sees at `/`. */
  const at = (path: string): string => join(folder, path)
  const mountPath = (volume: string): string => {
    const mounts = [...spec().initContainers, ...spec().containers].flatMap((one) => one.volumeMounts)
    return at(mounts.find(({ name }: Manifest) => name === volume).mountPath)
  }
  const mountVolume = (volume: Manifest): void => {
    const target = mountPath(volume.name)
    mkdirSync(target, { recursive: true })
    const maps = [volume, ...(volume.projected?.sources ?? [])].map(({ configMap }) => configMap?.name)
    const files = Object.assign({}, ...maps.filter(Boolean).map(dataOf))
    if (volume.name === 'config') files['zonegate.yaml'] = zonegateYaml('game.test')
    if (volume.secret) files['token'] = TOKEN
    if (volume.emptyDir === undefined) mountAtomically(target, files)
  }
  /** The processor's environment. */
  const environment = (): NodeJS.ProcessEnv => {
    const env: NodeJS.ProcessEnv = { ...INHERITED }
    for (const { name, value } of spec().initContainers[0].env)
      env[name] = value.startsWith('/') ? at(value) : local(value)
    return env
  }
  const startContainers = async (): Promise<void> => {
    const [sidecar, main] = [spec().initContainers[0], spec().containers[0]]
    const cwd = at('/zonegate')
    const output = (name: string): number => openSync(at(`${name}.log`), 'a')
    const env = environment()
    const log = output('processor')
    processor = spawn(process.execPath, [MAIN, 'serve'], { cwd, env, stdio: ['ignore', log, log] })
    await eventually('the startup probe of the sidecar succeeds', async () => {
      const { path } = sidecar.startupProbe.httpGet
      return (await ask(ports[9003], path).catch(() => undefined))?.status === 200
    })
    const [command, script] = main.command
    const args = main.args.map((text: string) => local(text))
    const PATH = `${dirname(await ensureEnvoy())}${delimiter}${process.env['PATH']}`
    const envoyLog = output('envoy')
    const stdio: ['ignore', number, number] = ['ignore', envoyLog, envoyLog]
    envoy = spawn(command, [at(script), ...args], { cwd, env: { PATH }, stdio, detached: true })
    await eventually('the readiness probe of Envoy succeeds', async () => {
      const { path } = main.readinessProbe.httpGet
      return (await ask(ports[9902], path).catch(() => undefined))?.status === 200
    }).catch((error: Error) => {
      throw new Error(`${error.message}\n${readFileSync(at('envoy.log'), 'utf8')}`)
    })
  }
  const statusOf = async (): Promise<number> =>
    (await call(ports[8101], { headers: [['server', '1']], body: 'x' })).status

  test('it takes requests: the zone of 2 s is too slow for the routes as shipped', async () => {
    assert.equal(await statusOf(), 504)
  })

  test('a changed ConfigMap of routes is live: the same zone answers', async () => {
    const files = { ...dataOf(bootstrapMap()), ...dataOf('envoy-routes') }
    const text = files['routes.yaml'] ?? ''
    files['routes.yaml'] = text.replace('per_try_timeout: 0.5s', 'per_try_timeout: 20s')
    assert.notEqual(files['routes.yaml'], text)
    mountAtomically(mountPath('envoy'), files)
    await eventually('200', async () => (await statusOf()) === 200)
  })
  const bootstrapMap = (): string =>
    manifests.find(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name.startsWith('envoy-bootstrap'),
    ).metadata.name

  test('a changed ConfigMap of the processor is live', async () => {
    mountAtomically(mountPath('config'), { 'zonegate.yaml': zonegateYaml('elsewhere.test') })
    await eventually('502', async () => (await statusOf()) === 502)
    mountAtomically(mountPath('config'), { 'zonegate.yaml': zonegateYaml('game.test') })
    await eventually('200', async () => (await statusOf()) === 200)
  })

  test('rules in a changed ConfigMap are live, learned or not, and no request fails meanwhile', async () => {
    let [sent, failed, isOver] = [0, 0, false]
    const status = async (path: string, headers: readonly (readonly [string, string])[]): Promise<number> =>
      (await call(ports[8101], { path, headers, body: 'x' })).status
    const load = (async () => {
      while (!isOver) {
        sent += 1
        // The rules before and those after find its id.
        if ((await status('/cb/1?zone=1', [['server', '1']])) !== 200) failed += 1
      }
    })()
    for (const learned of [false, true]) {
      mountAtomically(mountPath('config'), {
        'zonegate.yaml': zonegateYaml('game.test', '{ query: zone }', learned),
      })
      await eventually('the query says it', async () => (await status('/?zone=1', [])) === 200)
      mountAtomically(mountPath('config'), {
        'zonegate.yaml': zonegateYaml('game.test', '{ path: "/cb/{id}" }', learned),
      })
      await eventually('the path says it', async () => (await status('/cb/1', [])) === 200)
    }
    mountAtomically(mountPath('config'), { 'zonegate.yaml': zonegateYaml('game.test') })
    await eventually('the header says it', async () => (await statusOf()) === 200)
    isOver = true
    await load
    assert.equal(failed, 0, `of ${sent}`)
  })

  test('monitoring reads metrics of both, and nothing else of the admin interface', async () => {
    assert.equal((await ask(ports[9003], '/metrics', SCRAPE)).status, 200)
    assert.equal((await ask(ports[9003], '/metrics')).status, 401)
    const metrics = await ask(ports[9902], '/stats/prometheus?filter=^http\\.callback\\.')
    assert.match(metrics.text, /envoy_http_downstream_rq_total/)
    for (const path of ['/config_dump', '/stats', '/', '/ready/../quitquitquit'])
      assert.equal((await ask(ports[9902], path)).status, 404, path)
    assert.equal((await ask(ports[9902], '/ready', { method: 'POST' })).status, 404)
  })

  test("commands in the processor's container reach the processor with its token", async () => {
    const result = await runCli(['status'], at('/zonegate'), environment())
    assert.equal(result.code, 0, result.stderr)
    assert.match(result.stdout, /zone1|search|nameserver/)
  })

  test('SIGTERM: the request in flight is answered, Envoy ends by itself, and then the processor', async () => {
    const reply = call(ports[8101], { headers: [['server', '1']], body: 'x' })
    await once(slow, 'request')
    const ended = new Promise((resolve) => envoy.once('exit', resolve))
    envoy.kill('SIGTERM')
    assert.equal((await reply).status, 200)
    assert.equal(await ended, 0, readFileSync(at('envoy.log'), 'utf8'))
    const stopped = new Promise((resolve) => processor.once('exit', resolve))
    processor.kill('SIGTERM')
    assert.equal(await stopped, 0)
  })
})
