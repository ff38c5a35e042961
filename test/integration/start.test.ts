import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { freePort } from '../support/ports.ts'
import { INHERITED } from '../support/processor.ts'

/** What an operator sees when the processor can't start: one line for each fault, exit 1, and nothing left running. */
const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
let folder: string

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'zonegate-start-'))
  writeFileSync(join(folder, 'no-search.conf'), 'nameserver 127.0.0.1\n')
})
after(() => rmSync(folder, { recursive: true, force: true }))

function run(
  args: string[],
  config?: string,
  environment: NodeJS.ProcessEnv = {},
): Promise<{ code: number; stderr: string; stdout: string }> {
  if (config !== undefined) writeFileSync(join(folder, 'zonegate.yaml'), config)
  else rmSync(join(folder, 'zonegate.yaml'), { force: true })
  return new Promise((resolve) => {
    const options = { cwd: folder, env: { ...INHERITED, ...environment }, timeout: 60_000 }
    execFile(process.execPath, [MAIN, ...args], options, (error, stdout, stderr) => {
      resolve({
        code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1,
        stderr,
        stdout,
      })
    })
  })
}
const http = 'listen: { http: "127.0.0.1:1" }'

test('no search domain: the line names dns.search', async () => {
  const { code, stderr } = await run(['serve'], `dns: { resolvConf: no-search.conf }\n`)
  assert.equal(code, 1)
  assert.match(stderr, /^zonegate: dns\.search: no-search\.conf names no search domain; set dns\.search/m)
})

test('a search domain that makes no host name: the line names it, and what it would make', async () => {
  writeFileSync(join(folder, 'dmz.conf'), 'nameserver 127.0.0.1\nsearch corp_dmz.example\n')
  const { code, stderr } = await run(['serve'], `dns: { resolvConf: dmz.conf }\n`)
  assert.equal(code, 1)
  assert.match(
    stderr,
    /^zonegate: dns\.search: the search domain corp_dmz\.example of dmz\.conf makes no host name \(.*\), as in "zone1-mail\.corp_dmz\.example"; set dns\.search/m,
  )
  const validated = await run(['validate'], `dns: { resolvConf: dmz.conf }\n`)
  assert.match(validated.stdout, /^note +on this machine: dns\.search: the search domain corp_dmz\.example/m)
})

test('faults of the configuration: all of them, with file:line:column, and nothing started', async () => {
  const { code, stderr } = await run([], 'dns: { budgetMs: 0 }\nfoo: 1\n')
  assert.equal(code, 1)
  assert.match(stderr, /^zonegate: zonegate\.yaml:1:8: dns\.budgetMs: /m)
  assert.match(stderr, /^zonegate: zonegate\.yaml:2:1: foo: no such key, expected one of listen, /m)
  assert.deepEqual(
    readdirSync(folder).filter((name) => name === 'run'),
    [],
  )
})

test('a configuration that was named and is not there', async () => {
  const { code, stderr } = await run(['--config', 'other.yaml'])
  assert.deepEqual(
    [code, stderr],
    [1, 'zonegate: other.yaml: no such file; check the path on the command line or in ZONEGATE_CONFIG\n'],
  )
})

test('ZONEGATE_CONFIG names a configuration too', async () => {
  const { stderr } = await run([], undefined, { ZONEGATE_CONFIG: 'elsewhere.yaml' })
  assert.match(stderr, /^zonegate: elsewhere\.yaml: no such file/)
})

test('a privileged or taken port for health is told', async () => {
  const taken = createServer()
  await new Promise<void>((done) => taken.listen(0, '127.0.0.1', done))
  const address = taken.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const { code, stderr } = await run([], `listen: { http: "127.0.0.1:${port}" }\ndns: { search: s.test }\n`)
  taken.close()
  assert.equal(code, 1)
  assert.match(
    stderr,
    new RegExp(`^zonegate: listen\\.http: can't listen on 127\\.0\\.0\\.1:${port}: the port is in use`, 'm'),
  )
})

test('a socket path that another processor answers on is told', async () => {
  mkdirSync(join(folder, 'run'), { recursive: true })
  const other = createServer((peer) => peer.destroy())
  await new Promise<void>((done) => other.listen(join(folder, 'run/processor.sock'), done))
  const { code, stderr } = await run(
    [],
    `listen: { http: "127.0.0.1:${await freePort()}" }\ndns: { search: s.test }\n`,
  )
  other.close()
  assert.equal(code, 1)
  assert.match(stderr, /another processor listens on run\/processor\.sock/)
})

test('a file where the socket should be is kept, and told', async () => {
  writeFileSync(join(folder, 'run/processor.sock'), 'mine')
  const { code, stderr } = await run(
    [],
    `listen: { http: "127.0.0.1:${await freePort()}" }\ndns: { search: s.test }\n`,
  )
  rmSync(join(folder, 'run/processor.sock'))
  assert.equal(code, 1)
  assert.match(stderr, /exists and is not a socket/)
})

test('an unknown command points to --help', async () => {
  const { code, stderr } = await run(['srve'])
  assert.deepEqual(
    [code, stderr],
    [2, 'zonegate: there is no command "srve"; "zonegate --help" lists all commands\n'],
  )
})

test('--help has usage and an example', async () => {
  const { code, stdout } = await run(['--help'])
  assert.equal(code, 0)
  assert.match(stdout, /usage:[\s\S]*example:/)
})

test('healthcheck of a processor that does not run: exit 1 and why', async () => {
  const { code, stderr } = await run(['healthcheck'], `${http}\n`)
  assert.equal(code, 1)
  assert.match(
    stderr,
    /^zonegate: no processor answers on http:\/\/127\.0\.0\.1:1 \(ECONNREFUSED\): read its log and start it/,
  )
})
