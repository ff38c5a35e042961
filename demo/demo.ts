import { fileURLToPath } from 'node:url'
import { runGateway } from '../src/launch/gateway.ts'
import { startNameserver } from './nameserver.ts'
import { startReceiver } from './receiver.ts'

const LISTEN = '127.0.0.1:8101'
const NAMESERVER = { host: '127.0.0.1', port: 8153 }
const ZONES = { 1: ['127.0.1.1'], 2: ['127.0.2.1', '127.0.2.2'], 3: ['127.0.3.1'] } as const

/** The services of the rules in zonegate.yaml. */
const SERVICES = ['default', 'mail', 'notify', 'cb', 'chat']

const TRY = `
Zonegate is up on http://${LISTEN}. Try, in another terminal:

  curl -i -d hello -H 'server: 1' http://${LISTEN}/pay          # 200: the id is in a header; the receiver returns what it got
  curl -i -d hello 'http://${LISTEN}/notify?server_id=2'        # 200: the id is in the query
  curl -i -d hello http://${LISTEN}/cb/3/pay                    # 200: the id is in the path
  curl -i -d '{"attach": {"server": 1}}' -H 'content-type: application/json' http://${LISTEN}/chat    # 200: the id is in a JSON body

  curl -i -H 'server: 1' http://${LISTEN}/pay                   # 405: not POST
  curl -i -d hello http://${LISTEN}/pay                         # 403: no server header
  curl -i -d hello -H 'server: 99' http://${LISTEN}/pay         # 502: no such zone in DNS

There are zones 1 to 3; zone 2 has two receivers. demo/zonegate.yaml has the four rules. Ctrl-C ends the demo.
`

/** Zonegate with a nameserver and receivers on loopback, so it needs nothing else on the machine. */
async function main(): Promise<void> {
  if (process.argv.slice(2).some((argument) => argument === '--help' || argument === '-h')) {
    process.stdout.write(
      `Starts Zonegate with a demo nameserver and receivers, until Ctrl-C.\n\nusage: npm run demo\n`,
    )
    return
  }
  const records: Record<string, readonly string[]> = {}
  for (const [id, addresses] of Object.entries(ZONES)) {
    for (const service of SERVICES) records[`zone${id}-${service}.game.test`] = addresses
    for (const address of addresses) await startReceiver(id, address, 8101).catch(inUse(`${address}:8101`))
  }
  await startNameserver(NAMESERVER.host, NAMESERVER.port, records).catch(
    inUse(`${NAMESERVER.host}:${NAMESERVER.port}`),
  )
  await runGateway({
    root: fileURLToPath(new URL('..', import.meta.url)),
    configPath: fileURLToPath(new URL('zonegate.yaml', import.meta.url)),
    listen: LISTEN,
    admin: '127.0.0.1:9901',
    onReady: () => process.stdout.write(TRY),
  })
}

function inUse(address: string) {
  return (error: NodeJS.ErrnoException): never => {
    throw new Error(
      error.code === 'EADDRINUSE'
        ? `${address} is in use; stop the program that uses it and try again`
        : `${address}: ${error.message}`,
    )
  }
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`zonegate: ${(error as Error).message}\n`)
    process.exit(1)
  },
)
