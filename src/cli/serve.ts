import type { ServerDuplexStream } from '@grpc/grpc-js'
import type { Unready } from '../admin/server.ts'
import { announceRoutes } from '../config/announce-routes.ts'
import { LiveConfig } from '../config/live-config.ts'
import { loadConfig, readHttpToken } from '../config/load.ts'
import { hostPortOf } from '../config/schema.ts'
import { createHealth } from '../grpc/health-service.ts'
import { type Service, serveGrpc } from '../grpc/server.ts'
import { createLog, type Logger } from '../log.ts'
import { readBuild } from '../status/version.ts'
import { LiveCertificates } from './live-certificates.ts'
import { serveOperators } from './operators.ts'
import { type Running, run, startLasting } from './running.ts'

/** How long streams in flight may go on after SIGTERM; what is left then is destroyed. Docker's patience is 10 s. */
const DRAIN_MS = 5000

export interface ServeOptions {
  readonly configPath: string | undefined
  readonly environment: NodeJS.ProcessEnv
}

/** Runs the processor until SIGTERM or SIGINT. Throws where something is wrong at the start: nothing runs then. */
export async function serve({ configPath, environment }: ServeOptions): Promise<void> {
  const loaded = loadConfig(configPath, environment)
  const { listen } = loaded.config
  const token = readHttpToken(loaded.config)
  const log = createLog({
    level: loaded.config.log.level,
    pretty: process.stdout.isTTY,
    colour: (environment['NO_COLOR'] ?? '') === '',
    output: process.stdout,
  })

  endOnBugs(log)
  const lasting = startLasting(log, environment, () => running)
  let running: Running = run(loaded.config, lasting, null)
  const live = new LiveConfig(configPath, loaded, {
    load: (path) => loadConfig(path, environment),
    apply: (config) => {
      running = run(config, lasting, running)
      log.level = config.log.level
    },
    log,
    date: () => new Date(),
  })

  const certificates = listen.tls && new LiveCertificates(listen.tls, { log, date: () => new Date() })
  let unready: Unready = { processor: 'starting' }
  const closeOperators = await serveOperators({
    lasting,
    live,
    running: () => running,
    unready: () => unready,
    token,
    certificates,
  })
  const health = createHealth()
  const services = [delegate(() => running.processor), health.service, ...lasting.control.services]
  const grpc = await serveGrpc({
    address: listen.grpc.startsWith('unix:') ? listen.grpc : hostPortOf(listen.grpc),
    certificates: certificates?.current ?? null,
    services,
    log,
  })
  const stopWatching = [announceRoutes(log), live.watch(), certificates?.watch(grpc.setCertificates)]
  process.on('SIGHUP', () => {
    live.reload('SIGHUP')
    certificates?.reload('SIGHUP')
  })
  unready = {}
  const { search, dns } = running
  const addresses = {
    grpc: listen.grpc,
    tls: listen.tls !== null,
    http: listen.http,
    nameservers: dns.nameservers(),
  }
  log.info({ ...readBuild(), config: loaded.source, search: search(), ...addresses }, 'ready')

  onceStopped(log, async (signal) => {
    log.info({ signal }, 'stopping: streams in flight are answered first')
    unready = { processor: 'stopping' }
    health.stop()
    for (const stop of stopWatching) stop?.()
    lasting.control.close()
    running.zones.close()
    await grpc.drain(DRAIN_MS)
    closeOperators()
    running.dns.close()
    log.info('stopped')
  })
}

/**
 * What nobody caught leaves nobody knows what behind: the log has it as one line, and the process ends with exit code 1,
 * to be started again. Zones in use go on meanwhile. Exceptions in a stream, a report or an operator's request never come
 * here: they end that one.
 */
function endOnBugs(log: Logger): void {
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'a bug that nothing caught: the processor ends')
    log.flush(() => process.exit(1))
  })
}

/** The same service, each stream handed to whichever processor runs when it begins. */
function delegate(processor: () => Service): Service {
  const [definition] = processor()
  const Process = (stream: ServerDuplexStream<unknown, unknown>): void => {
    const handle = processor()[1]['Process'] as (stream: ServerDuplexStream<unknown, unknown>) => void
    handle(stream)
  }
  return [definition, { Process }]
}

/** Stops at the first signal; more of them change nothing, as stopping is bounded in time. */
function onceStopped(log: Logger, stop: (signal: NodeJS.Signals) => Promise<void>): void {
  let stopping = false
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stopping) return
      stopping = true
      void stop(signal).then(() => log.flush(() => process.exit(0)))
    })
  }
}
