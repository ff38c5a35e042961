import type { Unready } from '../admin/server.ts'
import { addressesOf } from '../config/envoy-settings.ts'
import { hostPortOf } from '../config/host-port.ts'
import { LiveConfig } from '../config/live-config.ts'
import { CONFIG_FILE, type LoadedConfig, loadConfig, readHttpToken } from '../config/load.ts'
import { loadConfigApart } from '../config/load-apart.ts'
import type { Config } from '../config/schema.ts'
import { createHealth } from '../grpc/health-service.ts'
import { serveGrpc } from '../grpc/server.ts'
import { guarded } from '../guard.ts'
import { createLog, type Logger } from '../log.ts'
import { PIN_SOCKET, servePinSocket } from '../pins/pin-socket.ts'
import { readBuild } from '../status/version.ts'
import { fileState } from '../watch-file.ts'
import { awayMsUntil, keepAliveFile } from './alive-file.ts'
import type { Bugs } from './bugs.ts'
import { LiveCertificates } from './live-certificates.ts'
import { LIVE_FILES } from './operator-files.ts'
import { serveOperators } from './operators.ts'
import { pinCommands } from './pin-commands.ts'
import { type Lasting, type Running, run, startLasting } from './running.ts'

/** After SIGTERM, streams in flight have this long to end. The rest is destroyed. Docker waits 10 s before it kills. */
const DRAIN_MS = 5000

export interface ServeOptions {
  readonly configPath: string | undefined
  readonly environment: NodeJS.ProcessEnv
}

/** Runs the processor until SIGTERM or SIGINT. @throws if it can't start; then nothing runs */
export async function serve({ configPath, environment }: ServeOptions): Promise<void> {
  const since = fileState(configPath ?? CONFIG_FILE)
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
    since,
    load: (path) => loadConfigApart(path, environment),
    apply: (config) => {
      recorder.holdUntilConfig()
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

/** Without a folder `run` that it may write to, the processor works but accepts no pins. @returns stops it */
async function servePins({ pins, bugs, log }: Lasting, running: () => Running): Promise<() => void> {
  const commands = pinCommands(pins, running, () => new Date())
  try {
    return await servePinSocket(PIN_SOCKET, commands, bugs.at('operator'))
  } catch (error) {
    log.warn(
      { error: (error as Error).message },
      'pins by command are off: the socket for them can not be opened',
    )
    return () => undefined
  }
}

function onHangup(bugs: Bugs, readAgain: () => Promise<void>): void {
  process.on('SIGHUP', guarded(bugs.at('file'), readAgain))
}

/** Recorded before any Envoy connects, so that its events come after the start. */
function tellStarted(
  { recorder }: Lasting,
  { config, source: file }: LoadedConfig,
  { search }: Running,
): void {
  const awayMs = awayMsUntil(Date.now())
  recorder.started(config, { version: readBuild().version, awayMs, file, search: search() })
}

/** Tells the log, and by the file `alive` the next processor. */
function tellReady(log: Logger, { config, source }: LoadedConfig, { search, dns }: Running): void {
  const { grpc, tls, http } = config.listen
  const addresses = { grpc, tls: tls !== null, http, nameservers: dns.nameservers() }
  log.info({ ...readBuild(), config: source, search: search(), ...addresses }, 'ready')
  keepAliveFile()
}

/**
 * An uncaught exception leaves unknown state behind, so the process logs it and exits with code 1, to be started again. Envoy
 * still forwards to learned zones meanwhile. Exceptions in a stream, a report or an operator's request are caught where they
 * happen, and end only that.
 */
function endOnBugs(log: Logger): void {
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'a bug that nothing caught: the processor ends')
    log.flush(() => process.exit(1))
  })
}

/** Stops at the first signal and ignores further ones: stopping takes a limited time anyway. */
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
