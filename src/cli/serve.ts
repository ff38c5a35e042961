import { serveAdmin, type Unready } from '../admin/server.ts'
import { announceRoutes } from '../config/announce-routes.ts'
import { loadConfig } from '../config/load.ts'
import { rulesOf } from '../config/rules.ts'
import { parseHostPort } from '../config/schema.ts'
import { createDns } from '../dns/dns.ts'
import { createRefusalLog } from '../ext-proc/refusal-log.ts'
import { externalProcessorService } from '../ext-proc/service.ts'
import { createHealth } from '../grpc/health-service.ts'
import { type Service, serveGrpc } from '../grpc/server.ts'
import { createLog, type Logger } from '../log.ts'
import { createDecider, type Decider } from '../routing/decider.ts'
import { addressPolicy } from '../routing/denied-addresses.ts'
import type { Rules } from '../routing/rules.ts'
import { dnsEventLog } from './dns-event-log.ts'
import { type Learning, startLearning } from './learning.ts'

/** How long streams in flight may go on after SIGTERM; what is left then is destroyed. Docker's patience is 10 s. */
const DRAIN_MS = 5000

/** Runs the processor until SIGTERM or SIGINT. Throws where something is wrong at the start: nothing runs then. */
export async function serve(configPath: string | undefined): Promise<void> {
  const { config, source } = loadConfig(configPath)
  const log = createLog(config.log.level)
  const dns = createDns(config.dns, {
    now: () => performance.now(),
    environment: process.env,
    admit: addressPolicy(config.addresses.allow),
    onEvent: dnsEventLog(log),
  })
  const search = dns.searchDomain()
  if (search === null) {
    throw new Error(
      `dns.search: ${config.dns.resolvConf} names no search domain; set dns.search in zonegate.yaml, like "game.test"`,
    )
  }

  const starting: Unready = { processor: 'starting' }
  let unready: Unready = starting
  const http = hostPortOf(config.listen.http)
  const admin = await serveAdmin(http.host, http.port, () => unready)
  const health = createHealth()
  const rules = rulesOf(config)
  const searchNow = (): string => dns.searchDomain() ?? search
  const learning = config.learned.enabled
    ? startLearning({ config, rules, search: searchNow, dns, log })
    : null
  const processor = extProc(rules, log, createDecider(rules, searchNow, dns.lookup), learning)
  const grpc = await serveGrpc(config.listen.grpc, [processor, health.service, ...(learning?.services ?? [])])
  const stopAnnouncing = announceRoutes(config.listen.grpc, log)
  unready = {}
  log.info(
    {
      config: source,
      grpc: config.listen.grpc,
      http: config.listen.http,
      search,
      nameservers: dns.nameservers(),
    },
    'ready',
  )

  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    log.info({ signal }, 'stopping: streams in flight are answered first')
    unready = { processor: 'stopping' }
    health.stop()
    stopAnnouncing()
    learning?.close()
    await grpc.drain(DRAIN_MS)
    admin.close()
    dns.close()
    log.info('stopped')
    process.exit(0)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void stop(signal))
}

function extProc(rules: Rules, log: Logger, decide: Decider, learning: Learning | null): Service {
  const logRefusal = createRefusalLog(
    (fields) => log.warn(fields, 'refused'),
    () => performance.now(),
  )
  return externalProcessorService({
    idHeader: rules.header,
    methods: rules.methods,
    decide,
    onDecision: (decision, head) => {
      if (decision.kind === 'reject') logRefusal(decision, head.ids.join(','), head.requestId)
      else learning?.used(decision.zone, decision.answer)
    },
    onBug: (error) => log.error({ err: error }, 'a bug: this request failed with 502, others go on'),
  })
}

function hostPortOf(text: string): { host: string; port: number } {
  const parsed = parseHostPort(text)
  if (parsed === null) throw new Error(`the schema lets through only host:port, not "${text}"`)
  return parsed
}
