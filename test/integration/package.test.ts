import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  cpSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { startNameserver } from '../../demo/nameserver.ts'
import { isInstalled, NAMESERVER_PROGRAMS, withNameserverProgram } from '../support/nameserver-programs.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'

/** The package of `npm run package`, installed under node_modules, where Node strips no types. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PACKED_BYTES_MAX = 500_000
const run = promisify(execFile)

let folder: string
let tarball: string
const environment = {
  ...process.env,
  // The shebang must find this Node instead of an older one of the machine.
  PATH: [dirname(process.execPath), process.env['PATH']].join(delimiter),
  NO_COLOR: '1',
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'zonegate-package-'))
  const pack = ['pack', '--ignore-scripts=false', '--silent', '--pack-destination', folder]
  await run('npm', pack, { cwd: ROOT, env: environment })
  tarball = join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '')
  // Like `npm install`, but with links to this project's dependencies, because tests need no internet.
  const modules = join(folder, 'node_modules')
  mkdirSync(join(modules, 'zonegate'), { recursive: true })
  mkdirSync(join(modules, '.bin'))
  await run('tar', ['-xzf', tarball, '-C', join(modules, 'zonegate'), '--strip-components=1'])
  for (const name of readdirSync(join(ROOT, 'node_modules')))
    if (!name.startsWith('.')) symlinkSync(join(ROOT, 'node_modules', name), join(modules, name))
  chmodSync(join(modules, 'zonegate/dist/main.js'), 0o755)
  symlinkSync('../zonegate/dist/main.js', join(modules, '.bin/zonegate'))
})
after(() => rmSync(folder, { recursive: true, force: true }))

function zonegate(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  return run('npx', ['--no-install', 'zonegate', ...args], { cwd: folder, env: environment })
}

test('the package is small, and has the program, its files and nothing else', async () => {
  const { stdout } = await run('tar', ['-tzf', tarball])
  const packed = stdout
    .trim()
    .split('\n')
    .map((path) => path.replace(/^package\//, ''))
  const emitted = globSync('src/**/*.*', { cwd: ROOT })
    .filter(
      (path) =>
        !/\.test\.ts$|^src\/launch\/|^src\/config\/json-schema\.ts$|^src\/dns\/encode\.ts$/.test(path),
    )
    .map((path) => path.replace(/^src/, 'dist').replace(/\.ts$/, '.js'))
  const expected = [
    ...emitted,
    ...['index', 'answer', 'events'].map((name) => `dist/dns/${name}.d.ts`),
    ...globSync(['proto/**/*.{proto,json}', 'envoy/**/*.{yaml,lua}'], { cwd: ROOT }).filter(
      (path) => path !== 'envoy/kustomization.yaml',
    ),
    ...['dist/COMMIT', 'package.json', 'zonegate.schema.json'],
    ...['CHANGELOG.md', 'LICENSE', 'README.md', 'README.zh-CN.md'],
  ]
  assert.deepEqual(packed.sort(), expected.sort())
  assert.ok(statSync(tarball).size < PACKED_BYTES_MAX, `${statSync(tarball).size} bytes`)
})

test('npx zonegate: version, commit, and the Envoy that it is made for', async () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }
  const { stdout } = await zonegate('version')
  assert.match(
    stdout,
    new RegExp(`^zonegate ${version} \\(\\w+(-dirty)?\\) for Envoy 1\\.40\\.0, Node v\\d+`),
  )
})

test('npx zonegate: --version and --help', async () => {
  assert.equal((await zonegate('--version')).stdout, (await zonegate('version')).stdout)
  assert.match((await zonegate('--help')).stdout, /^usage: zonegate \[COMMAND\][\s\S]*^ {2}serve +/m)
})

test('npx zonegate: validate says what is wrong with a file', async () => {
  writeFileSync(join(folder, 'broken.yaml'), 'dns:\n  serch: game.test\n')
  await assert.rejects(zonegate('validate', 'broken.yaml'), { code: 1, stdout: /broken\.yaml:2:3: .*serch/ })
})

/** Under the package's folder, where `zonegate/dns` is found as in a service that has installed it. */
async function runExample(name: string, ...args: string[]): Promise<string> {
  cpSync(join(ROOT, 'examples', name), join(folder, name))
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  const options = { cwd: folder, env: environment, timeout: 20_000 }
  return (await run(process.execPath, [name, ...args], options)).stdout
}

const program = NAMESERVER_PROGRAMS.find(isInstalled)
test('zonegate/dns: the example asks a real nameserver', {
  skip: program === undefined && 'no nameserver is installed here',
}, async () => {
  assert.ok(program !== undefined)
  const server = createServer((_, response) => response.end()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  try {
    await withNameserverProgram(program, async (nameserver) => {
      let output = ''
      const url = `http://ns.game.test:${port}/`
      // The nameserver needs a moment to start.
      await eventually('the nameserver answers', async () => {
        output = await runExample('cached-dns.ts', url, nameserver).catch(() => '')
        return output !== ''
      })
      assert.match(output, /addresses: \[ '127\.0\.0\.1' \]/)
      assert.match(output, /^status 200$/m)
    })
  } finally {
    server.close()
  }
})

test('zonegate/dns: a process ends while it keeps a name, and without close', async () => {
  const script = `import { createResolver } from 'zonegate/dns'
    const resolver = createResolver({ nameservers: ['127.0.0.1:9'], timeoutMs: 50, budgetMs: 100 })
    resolver.keep('kept.test', () => {})
    console.log((await resolver.lookup('other.test')).kind)`
  writeFileSync(join(folder, 'ends.mjs'), script)
  const { stdout } = await run(process.execPath, ['ends.mjs'], { cwd: folder, timeout: 20_000 })
  assert.equal(stdout, 'failure\n')
})

test('zonegate/dns: its types are complete, and fit the example', async () => {
  cpSync(join(ROOT, 'examples'), join(folder, 'examples'), { recursive: true })
  const compilerOptions = { module: 'nodenext', strict: true, noEmit: true, types: ['node'] }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['examples'] }))
  await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', folder])
})

test('npx zonegate: serve, status, healthcheck, explain, the page, and an end by SIGTERM', async () => {
  const nameserver = await startNameserver('127.0.0.1', 0, { 'zone1-default.game.test': ['10.0.0.1'] })
  const http = await freePort()
  const server = ['--server', `http://127.0.0.1:${http}`]
  writeFileSync(
    join(folder, 'zonegate.yaml'),
    JSON.stringify({
      listen: { http: `127.0.0.1:${http}` },
      dns: { search: 'game.test', nameservers: [`127.0.0.1:${nameserver.address().port}`] },
    }),
  )
  const processor = spawn('node_modules/.bin/zonegate', ['serve'], {
    cwd: folder,
    env: environment,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    let log = ''
    processor.stdout.on('data', (chunk) => {
      log += String(chunk)
    })
    while (!log.includes('"msg":"ready"')) await once(processor.stdout, 'data')
    assert.match(log, /"version":"[\d.]+","commit":"\w+(-dirty)?","envoy":"1\.40\.0".*"msg":"ready"/)
    await zonegate('healthcheck')
    assert.match((await zonegate('explain', '--id', '1', ...server)).stdout, /10\.0\.0\.1/)
    assert.match((await zonegate('explain', '--id', '1', '--offline')).stdout, /10\.0\.0\.1/)
    assert.match((await zonegate('status', ...server)).stdout, /nameserver/i)
    const page = await fetch(`http://127.0.0.1:${http}/page/page.js`)
    assert.deepEqual([page.status, page.headers.get('content-type')], [200, 'text/javascript; charset=utf-8'])
  } finally {
    processor.kill('SIGTERM')
    const [code] = await once(processor, 'exit')
    nameserver.close()
    assert.equal(code, 0)
  }
})
