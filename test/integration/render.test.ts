import assert from 'node:assert/strict'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, beforeEach, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { runCli } from '../support/processor.ts'

const ENVOY_FILES = fileURLToPath(new URL('../../envoy', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'zonegate-render-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const at = (path: string): string => join(folder, path)
const text = (path: string): string => readFileSync(at(path), 'utf8')
const render = (...args: string[]) => runCli(['render', ...args], folder)
const edit = (path: string, from: string, to: string): void => {
  const before = text(path)
  assert.ok(before.includes(from), from)
  writeFileSync(at(path), before.replace(from, to))
}

beforeEach(() => {
  for (const name of ['envoy', 'run', 'other']) rmSync(at(name), { recursive: true, force: true })
  cpSync(ENVOY_FILES, at('envoy'), { recursive: true })
  writeFileSync(at('zonegate.yaml'), 'rules: { methods: [POST, PUT] }\nlisten: { grpc: "127.0.0.1:9004" }\n')
})

test('it writes what Envoy reads, then only what differs, and leaves nothing else behind', async () => {
  assert.deepEqual(await render(), {
    code: 0,
    stdout: 'written: run/envoy.yaml, run/listener.yaml, run/routes.yaml\n',
    stderr: '',
  })
  assert.deepEqual(readdirSync(at('run')).sort(), ['envoy.yaml', 'listener.yaml', 'routes.yaml'])
  const [processor] = parse(text('run/envoy.yaml')).static_resources.clusters
  assert.deepEqual(processor.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address, {
    socket_address: { address: '127.0.0.1', port_value: 9004 },
  })
  assert.equal((await render()).stdout, 'nothing has changed\n')
  edit('zonegate.yaml', 'PUT', 'GET')
  assert.equal((await render()).stdout, 'written: run/routes.yaml\n')
})

test('--check writes nothing and prints what would change', async () => {
  await render()
  assert.deepEqual(await render('--check'), { code: 0, stdout: '', stderr: '' })
  edit('zonegate.yaml', 'POST, PUT', 'POST')
  const before = text('run/routes.yaml')
  const { code, stdout, stderr } = await render('--check')
  assert.equal(code, 1)
  assert.match(
    stderr,
    /^zonegate: note: compared with zonegate\.yaml\. If you started the gateway with --config/,
  )
  assert.match(
    stdout,
    /^--- run\/routes\.yaml\n\+\+\+ run\/routes\.yaml, rendered\n@@ -\d+,\d+ \+\d+,\d+ @@\n/,
  )
  assert.match(stdout, /^-.*POST\|PUT/m)
  assert.match(stdout, /^\+ +exact: POST$/m)
  assert.equal(text('run/routes.yaml'), before)
})

test('--envoy and --out name other folders', async () => {
  cpSync(ENVOY_FILES, at('other/own'), { recursive: true })
  rmSync(at('envoy'), { recursive: true })
  const { code, stdout } = await render('--envoy', 'other/own', '--out', 'other/out')
  assert.equal(code, 0)
  assert.match(stdout, /other\/out\/envoy\.yaml/)
  assert.match(text('other/out/routes.yaml'), /from other\/own\/routes\.yaml/)
})

test('beside a running processor nothing is written: its gateway may have other options', async () => {
  writeFileSync(at('zonegate.yaml'), 'dns: { search: a.test }\n')
  await render()
  const before = text('run/listener.yaml')
  const processor = createServer().listen(at('run/processor.sock'))
  await once(processor, 'listening')
  try {
    edit('zonegate.yaml', 'dns:', 'rules: { header: x-zone }\ndns:')
    const { code, stderr } = await render()
    assert.equal(code, 1)
    assert.match(
      stderr,
      /^zonegate: nothing is written, because a running processor writes run\/ on each save/,
    )
    assert.equal(text('run/listener.yaml'), before)
    assert.equal((await render('--check')).code, 1)
    assert.match((await render('--out', 'other')).stdout, /^written: other\/envoy\.yaml/)
  } finally {
    processor.close()
  }
  assert.match((await render()).stdout, /^written: run\/envoy\.yaml, run\/listener\.yaml/)
})

test('a file that is missing is told with what to do', async () => {
  rmSync(at('envoy/listener.yaml'))
  const { code, stderr } = await render()
  assert.equal(code, 1)
  assert.equal(
    stderr,
    'zonegate: envoy/listener.yaml: no such file; take it from envoy/ of this version (CHANGELOG.md, "To upgrade")\n',
  )
})

test('what can not be made is told with its place, and nothing is written', async () => {
  edit('envoy/listener.yaml', 'ext_proc.v3.ExternalProcessor', 'other.v3.Other')
  const { code, stdout, stderr } = await render()
  assert.equal(code, 1)
  assert.match(
    stdout + stderr,
    /^zonegate: envoy\/listener\.yaml:\d+:\d+: http_filters: expected one of the type/,
  )
  assert.ok(!readdirSync(folder).includes('run'))
})
