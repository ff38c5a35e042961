import type { Unready } from '../admin/server.ts'
import { addressesOf } from '../config/envoy-settings.ts'
import { LiveConfig } from '../config/live-config.ts'
import { type LoadedConfig, loadConfig, readHttpToken } from '../config/load.ts'
import { loadConfigApart } from '../config/load-apart.ts'
import { type Config, hostPortOf } from '../config/schema.ts'
import { createHealth } from '../grpc/health-service.ts'
import { serveGrpc } from '../grpc/server.ts'
import { guarded } from '../guard.ts'
import { createLog, type Logger } from '../log.ts'
import { PIN_SOCKET, servePinSocket } from '../pins/pin-socket.ts'
import { readBuild } from '../status/version.ts'
import { awayMsUntil, keepAliveFile } from './alive-file.ts'
import type { Bugs } from './bugs.ts'
import { LiveCertificates } from './live-certificates.ts'
import { LIVE_FILES } from './operator-files.ts'
import { serveOperators } from './operators.ts'
import { pinCommands } from './pin-commands.ts'
import { type Lasting, type Running, run, startLasting } from './running.ts'

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
  const log = logOf(loaded.config, environment)
  endOnBugs(log)
  const addresses = addressesOf(loaded.config, environment)
  const lasting = startLasting(log, loaded.config.history, environment, addresses, () => running)
  const { bugs, recorder } = lasting
  const date = (): Date => new Date()
  let running: Running = run(loaded.config, lasting, null)
  const live = new LiveConfig(configPath, loaded, {
    load: (path) => loadConfigApart(path, environment),
    apply: (config) => {
      running = run(config, lasting, running)
      log.level = config.log.level
    },
    log,
    onRead: (file, outcome) => recorder.config(file, outcome),
    date,
    onBug: bugs.at('file'),
  })

  const certificates = listen.tls && new LiveCertificates(listen.tls, { log, date, onBug: bugs.at('file') })
  let unready: Unready = { processor: 'starting' }
  const operated = { lasting, live, running: () => running, unready: () => unready, token, certificates }
  const closeOperators = await serveOperators(operated)
  tellStarted(lasting, loaded, running)
  const health = createHealth()
  const grpc = await serveGrpc({
    address: listen.grpc.startsWith('unix:') ? listen.grpc : hostPortOf(listen.grpc),
    certificates: certificates?.current ?? null,
    services: [lasting.processor, health.service, ...lasting.control.services],
    log,
    onBug: bugs.at('connection'),
  })
  const closePins = await servePins(lasting, () => running)
  const stopWatching = [live.watch(LIVE_FILES), certificates?.watch(grpc.setCertificates), closePins]
  onHangup(bugs, () => {
    running.dns.takeSearchDomain()
    certificates?.reload('SIGHUP')
    return live.reload('SIGHUP')
  })
  unready = {}
  tellReady(log, loaded, running)

  onceStopped(log, async (signal) => {
    log.info({ signal }, 'stopping: streams in flight are answered first')
    recorder.stopped(signal)
    unready = { processor: 'stopping' }
    health.stop()
    for (const stop of stopWatching) stop?.()
    lasting.control.close()
    running.zones.close()
    await grpc.drain(DRAIN_MS)
    closeOperators()
    running.dns.close()
    lasting.history.close()
    await lasting.tracing.close()
    log.info('stopped')
  })
}

function logOf({ log: { level } }: Config, environment: NodeJS.ProcessEnv): Logger {
  const colour = (environment['NO_COLOR'] ?? '') === ''
  return createLog({ level, pretty: process.stdout.isTTY, colour, output: process.stdout })
}

/** A processor whose folder `run` is another's, or no folder at all, takes no pins, and does all else. @returns ends it */
async function servePins({ pins, bugs, log }: Lasting, running: () => Running): Promise<() => void> {
  const commands = pinCommands(pins, running, () => new Date())
  try {
    return await servePinSocket(PIN_SOCKET, commands, bugs.at('operator'))
  } catch (error) {
    log.warn({ error: (error as Error).message }, 'zones can not be pinned by command')
    return () => undefined
  }
}

function onHangup(bugs: Bugs, readAgain: () => Promise<void>): void {
  process.on('SIGHUP', guarded(bugs.at('file'), readAgain))
}

/** Before any Envoy is heard: what it tells belongs to this processor. */
function tellStarted(
  { recorder }: Lasting,
  { config, source: file }: LoadedConfig,
  { search }: Running,
): void {
  const awayMs = awayMsUntil(Date.now())
  recorder.started(config, { version: readBuild().version, awayMs, file, search: search() })
}

/** The log, and the processor after this one. */
function tellReady(log: Logger, { config, source }: LoadedConfig, { search, dns }: Running): void {
  const { grpc, tls, http } = config.listen
  const addresses = { grpc, tls: tls !== null, http, nameservers: dns.nameservers() }
  log.info({ ...readBuild(), config: source, search: search(), ...addresses }, 'ready')
  keepAliveFile()
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
