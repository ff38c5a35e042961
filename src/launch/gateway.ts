import { createServer } from 'node:net'
import { resolve } from 'node:path'
import { loadConfig } from '../config/load.ts'
import { parseHostPort } from '../config/schema.ts'
import { ensureEnvoy } from './envoy-binary.ts'
import { drainEnvoy, type Part, startEnvoy, startProcessor, untilReady } from './instance.ts'

export interface GatewayOptions {
  /** The folder with `envoy/`; `run/` is made in it. */
  readonly root: string
  readonly configPath: string | undefined
  /** `host:port` of Envoy's listener and of its admin page. */
  readonly listen: string
  readonly admin: string
  /** Take requests beside another Zonegate on the same address, which is stopped afterwards. */
  readonly reusePort?: boolean
  readonly onReady: () => void
}

const say = (text: string): void => {
  process.stderr.write(`zonegate: ${text}\n`)
}

/**
 * Envoy and the processor as one foreground command: up together, down together, Envoy drained first.
 * @returns the exit code: 0 after Ctrl-C or SIGTERM, 1 when a part died
 */
export async function runGateway(options: GatewayOptions): Promise<number> {
  const listen = hostPort('--listen', options.listen)
  const admin = hostPort('--admin', options.admin)
  const configPath = options.configPath === undefined ? undefined : resolve(options.configPath)
  const { config } = loadConfig(configPath, process.env)
  const http = hostPort('listen.http', config.listen.http)
  const binary = await ensureEnvoy(say)
  await mustBeFree('--listen', listen, options.reusePort)
  await mustBeFree('--admin', admin)
  await mustBeFree('listen.http', http)

  const stop = stopSignal()
  const parts: Part[] = []
  try {
    const processor = startProcessor(options.root, configPath, 'inherit')
    parts.push(processor)
    await untilReady(processor, http.host, http.port, '/readyz')
    const { grpc } = config.listen
    const addresses = {
      listen,
      admin,
      processor: grpc.startsWith('unix:') ? grpc : hostPort('listen.grpc', grpc),
      allow: config.addresses.allow,
    }
    const envoy = startEnvoy({ binary, cwd: options.root, addresses, output: 'inherit' })
    parts.push(envoy)
    await untilReady(envoy, admin.host, admin.port, '/ready')
    options.onReady()

    const died = await Promise.race([
      stop,
      ...parts.map((part) => part.gone.then((why) => `${part.name} ended by itself: ${why}`)),
    ])
    if (died !== undefined) {
      say(`${died}; stopping the rest`)
      return 1
    }
    say('stopping: Envoy finishes its requests first')
    await drainEnvoy(envoy, admin)
    return 0
  } finally {
    await Promise.all(parts.map((part) => part.stop()))
  }
}

/** Settles at the first signal to stop. More of them change nothing: stopping is bounded in time. */
function stopSignal(): Promise<undefined> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => resolve(undefined))
  })
}

function hostPort(name: string, text: string): { host: string; port: number } {
  const parsed = parseHostPort(text)
  if (parsed === null) throw new Error(`${name}: expected host:port, got "${text}"`)
  return parsed
}

/** @param reusePort others who share it (SO_REUSEPORT, as every Envoy does) don't count */
async function mustBeFree(
  name: string,
  { host, port }: { host: string; port: number },
  reusePort = false,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const probe = createServer()
    probe.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'is in use' : `can't be had (${error.code})`
      reject(new Error(`${host}:${port} (${name}) ${why}; stop what has it, or choose another address`))
    })
    probe.listen({ host, port, exclusive: true, reusePort }, () => probe.close(() => resolve()))
  })
}
