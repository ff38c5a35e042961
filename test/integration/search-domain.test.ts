import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { eventually, startProcessorAlone, type TestProcessor } from '../support/processor.ts'

/** A resolv.conf whose search domain changes under a running processor, as by a VPN or a DHCP client. */
let processor: TestProcessor
let folder: string
let resolvConf: string

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'zonegate-search-'))
  resolvConf = join(folder, 'resolv.conf')
  writeFileSync(resolvConf, 'search game.test\nnameserver 127.0.0.1\n')
  processor = await startProcessorAlone({ config: { dns: { resolvConf, search: null, nameservers: null } } })
})
after(async () => {
  await processor?.stop()
  rmSync(folder, { recursive: true, force: true })
})

const nameOf = async (): Promise<string> => (await processor.ask('/api/explain?id=1')).json().zone.name
const save = (path: string, text: string): void => {
  writeFileSync(`${path}.new`, text)
  renameSync(`${path}.new`, path)
}
const offered = async (): Promise<string | null> =>
  (await processor.ask('/api/status')).json().dns.searchOffered
const saveConfig = async (dns: Record<string, unknown>): Promise<void> => {
  const accepted = async (): Promise<number> =>
    (await processor.ask('/api/status')).json().config.reloads.accepted
  const file = join(processor.folder, 'zonegate.yaml')
  const config = parse(readFileSync(file, 'utf8'))
  const before_ = await accepted()
  save(file, stringify({ ...config, dns: { ...config.dns, ...dns } }))
  await eventually('the configuration is taken', async () => (await accepted()) > before_)
}

test('a domain that is put in front waits until it is asked for: by SIGHUP, or by dns.search', async () => {
  save(resolvConf, 'search vpn.test game.test\nnameserver 127.0.0.1\n')
  await eventually('the new domain is seen', async () => (await offered()) === 'vpn.test')
  assert.equal(await nameOf(), 'zone1-default.game.test')
  const warnings = processor
    .lines()
    .filter(({ level, offered }) => level === 'warn' && offered === 'vpn.test')
  assert.equal(warnings.length, 1)
  const { stdout } = await processor.cli(['status'])
  assert.match(
    stdout,
    /^the search domain is still game\.test, but resolv\.conf now begins with vpn\.test: send SIGHUP/m,
  )

  await saveConfig({ budgetMs: 1400 })
  assert.equal(await nameOf(), 'zone1-default.game.test', 'another key asks for no other domain')
  processor.signal('SIGHUP')
  await eventually('the new domain is in force', async () => (await nameOf()) === 'zone1-default.vpn.test')
  await saveConfig({ search: 'own.test' })
  assert.equal(await nameOf(), 'zone1-default.own.test')
})

test('a domain that makes no host name is refused while the processor runs, too', async () => {
  await saveConfig({ search: null })
  save(resolvConf, 'search corp_dmz.example\nnameserver 127.0.0.1\n')
  const refusals = () =>
    processor.lines().filter(({ reason }) => String(reason).includes('corp_dmz.example makes no host name'))
  await eventually('it is refused', () => refusals().length > 0)
  assert.equal(await nameOf(), 'zone1-default.vpn.test')
})
