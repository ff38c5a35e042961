import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parse } from 'yaml'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import {
  DNSMASQ,
  type SrvLine,
  startZoneNameserver,
  type ZoneNameserver,
} from '../support/zone-nameserver.ts'

/** The examples of docs/recipes, as they stand there: the file is the gateway's, and each command prints what is below it. */
const PAGE = readFileSync(fileURLToPath(new URL('../../docs/recipes/README.md', import.meta.url)), 'utf8')
const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const GATEWAY = /http:\/\/127\.0\.0\.1:8101/g
const ZONE = /\bzone[\w-]+\.game\.test\b/g
/** A machine that is in no DNS. */
const SPARE = '10.0.0.5'
const ZONEGATE = /^npm run -s zonegate -- /
const DEFAULT_PORT = 8101
/** On the cold path first, then as a learned zone. */
const ROUNDS = 4

const run = promisify(execFile)

interface Recipe {
  readonly title: string
  readonly yaml: string
  /** Ports and targets in DNS. */
  readonly services: readonly SrvLine[]
  readonly requests: readonly { readonly command: string; readonly output: string }[]
}

function recipesOf(page: string): Recipe[] {
  return page
    .split(/^## /m)
    .slice(1)
    .map((section) => ({
      title: section.split('\n', 1)[0] ?? '',
      yaml: blocks(section, 'yaml').join(''),
      services: blocks(section, 'dns').flatMap((block) => block.trim().split('\n').map(srvLine)),
      requests: blocks(section, 'console')
        .flatMap((block) => block.split(/^\$ /m).slice(1))
        .map((entry) => {
          const [, command = '', output = ''] = /^((?:.*\\\n)*.*\n)([\s\S]*)$/.exec(entry) ?? []
          return { command: command.trim(), output: output.trim() }
        }),
    }))
}

function srvLine(line: string): SrvLine {
  const [, name = '', priority, weight, port, target = ''] =
    /^(\S+)\. SRV (\d+) (\d+) (\d+) (\S*)\.$/.exec(line) ?? assert.fail(line)
  return { name, target, port: Number(port), priority: Number(priority), weight: Number(weight) }
}

function blocks(section: string, language: string): string[] {
  return [...section.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    ([, text]) => text ?? '',
  )
}

const recipes = recipesOf(PAGE)

suite('recipes', {
  skip: spawnSync('curl', ['--version']).status === 0 ? false : 'curl is not installed',
}, () => {
  test('each has a file and requests, and a line in the list of contents', () => {
    for (const { title, yaml, requests } of recipes) {
      assert.ok(yaml !== '' && requests.length > 0, title)
      assert.ok(
        requests.some(({ output }) => output.startsWith('zone')),
        title,
      )
    }
    const listed = [...PAGE.matchAll(/^- \[(.*)\]\(#(.*)\)$/gm)].map(([, title]) => title)
    assert.deepEqual(
      listed,
      recipes.map(({ title }) => title),
    )
  })

  for (const [index, recipe] of recipes.entries())
    suite(recipe.title, {
      skip: recipe.services.length === 0 || existsSync(DNSMASQ) ? false : 'dnsmasq is not installed',
    }, () => {
      let gateway: TestGateway
      let nameserver: ZoneNameserver
      let spare: string
      const receivers: Server[] = []

      before(async () => {
        const { rules, dns, addresses: _ports, ...rest } = parse(recipe.yaml)
        const names = [...new Set(recipe.requests.flatMap(({ output }) => output.match(ZONE) ?? []))]
        const addresses = names.map((name, at): [string, string] => [name, `127.0.${100 + index}.${at + 1}`])
        const portOf = await portsFor(rules)
        spare = `127.0.${100 + index}.200`
        const hasSpare = recipe.requests.some(({ output }) => output.startsWith(SPARE))
        for (const [name, address] of [...addresses, ...(hasSpare ? [[SPARE, spare] as const] : [])])
          for (const port of new Set(portOf.values())) receivers.push(await startZone(name, address, port))
        const services = await withFreePorts(recipe.services)
        const targets = new Map(
          services.map(({ target }, at) => [target, `127.0.${100 + index}.${200 + at}`] as const),
        )
        for (const { name, target, port } of services.filter(({ target }) => target !== ''))
          receivers.push(await startZone(name.replace(/^_\w+\._tcp\./, ''), targets.get(target) ?? '', port))
        nameserver = await startZoneNameserver(
          Object.fromEntries([...addresses, ...targets].map(([name, address]) => [name, [address]])),
          {},
          services,
        )
        gateway = await startGateway({
          config: {
            ...rest,
            rules: withPorts(rules, portOf),
            dns: { ...dns, nameservers: [nameserver.address] },
            addresses: {
              allow: [`127.0.${100 + index}.0/24`],
              ...(services.length > 0 && { ports: services.map(({ port }) => port) }),
            },
          },
        })
      })
      after(async () => {
        await gateway?.stop()
        await nameserver?.close()
        for (const receiver of receivers) {
          receiver.close()
          receiver.closeAllConnections()
        }
      })

      for (const { command, output } of recipe.requests)
        test(`${command}: ${output}`, async () => {
          const own = command
            .replaceAll(GATEWAY, `http://127.0.0.1:${gateway.port}`)
            .replaceAll(SPARE, spare)
            .replace(ZONEGATE, `'${process.execPath}' '${MAIN}' `)
          const printed = async (): Promise<string> => {
            const { stdout } = await run('sh', ['-c', own], { cwd: gateway.folder })
            return stdout.trim().replaceAll(spare, SPARE)
          }
          if (ZONEGATE.test(command)) return assert.match(await printed(), asPattern(output))
          // What a command has changed is in force on both paths a moment later.
          await eventually(`${command} prints it`, async () => asPattern(output).test(await printed()))
          for (let round = 1; round <= ROUNDS; round++)
            assert.match(await printed(), asPattern(output), `request ${round}`)
        })
    })
})

/** A text of the page, where … is anything. */
function asPattern(text: string): RegExp {
  return new RegExp(`^${text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll('…', '.*')}$`)
}

/** A free port for each one of the records. */
async function withFreePorts(services: readonly SrvLine[]): Promise<SrvLine[]> {
  const ports = new Map<number, number>()
  for (const { port } of services) ports.set(port, ports.get(port) ?? (await freePort()))
  return services.map((service) => ({ ...service, port: ports.get(service.port) ?? 0 }))
}

interface RuleText {
  readonly port?: number | 'srv'
  readonly services?: Readonly<Record<string, { readonly port?: number }>>
}

function rulesIn(rules: RuleText | readonly RuleText[]): readonly RuleText[] {
  return Array.isArray(rules) ? rules : [rules as RuleText]
}

/** A free port for each one of the file. */
async function portsFor(rules: RuleText | readonly RuleText[]): Promise<Map<number, number>> {
  const ports = new Map<number, number>()
  for (const rule of rulesIn(rules))
    for (const { port = DEFAULT_PORT } of [rule, ...Object.values(rule.services ?? {})])
      if (port !== 'srv') ports.set(port, ports.get(port) ?? (await freePort()))
  return ports
}

function withPorts(rules: RuleText | readonly RuleText[], ports: ReadonlyMap<number, number>): unknown {
  const list = rulesIn(rules).map((rule) => ({
    ...rule,
    port: rule.port === 'srv' ? 'srv' : ports.get(rule.port ?? DEFAULT_PORT),
    ...(rule.services && {
      services: Object.fromEntries(
        Object.entries(rule.services).map(([name, service]) => [
          name,
          { ...service, ...(service.port && { port: ports.get(service.port) }) },
        ]),
      ),
    }),
  }))
  return Array.isArray(rules) ? list : list[0]
}

/** Answers with its name and what it got. */
function startZone(name: string, host: string, port: number): Promise<Server> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString('utf8')
      response.end([name, 'got', request.method, request.url, ...(body === '' ? [] : [body])].join(' '))
    })
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => resolve(server))
  })
}
