import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { a, type ScriptedNameserver, silent, soa, startNameserver } from '../test/support/nameserver.ts'
import { usageOf } from './machine.ts'
import { Processes } from './processes.ts'
import { type Ask, asking, verify } from './requests.ts'
import { type Stage, settingOf } from './stage.ts'
import type { Running, System } from './systems/system.ts'
import { receiverAddresses, searchDomain, type Zone } from './zones.ts'

/**
 * What callers get when something fails. Each system has its own two nameservers. All systems meet a fault at the same
 * time, except the scan, because it takes CPU. Most figures here do not depend on the speed of the machine.
 */

export interface FaultFigures {
  readonly system: string
  readonly title: string
  /** Zones with two addresses, of which one refuses connections: the share of requests that got 200. */
  readonly addressDead: number
  /** Zones that got another address in DNS: seconds until every request reached it; null: more than `movedWithinMs`. */
  readonly movedSeconds: number | null
  /** Requests for new zones while the first nameserver is silent, and while it answers SERVFAIL. */
  readonly silentNameserver: FirstRequests
  readonly servfailNameserver: FirstRequests
  readonly scan: ScanFigures
  /** Both nameservers silent: the share of zones in use that still answer some time after their TTL has passed. */
  readonly outage: number
}

export interface FirstRequests {
  /** The share that got 200. */
  readonly answered: number
  readonly slowestMs: number
}

export interface ScanFigures {
  /** Random ids that got an answer, whatever it was. */
  readonly idsPerSecond: number
  /** Queries to the nameservers for each random id. */
  readonly queriesPerId: number
  /** Requests for zones in use meanwhile: the share that got 200, and queries to the nameservers for each of them. */
  readonly inUse: number
  readonly queriesInUse: number
  /** New zones meanwhile: the share that got 200 at the first try, and at one of three. */
  readonly newZones: number
  readonly newZonesRetried: number
  readonly addedMebibytes: number
}

export const ttlSeconds = 5
const negativeTtlSeconds = 5
const zonesOfEach = 10
const requestsOfEach = 10
const betweenRequestsMs = 200
const answerWithinMs = 10_000
export const movedWithinMs = 15_000
export const outageMs = 12_000
export const scan = { idsPerSecond: 2_000, seconds: 5 }
const scanConnections = 64
/** Nobody listens here. The address is in `receiverNetwork`, so Zonegate may forward to it. */
const deadAddress = '127.0.2.253'

/** A system with its nameservers. */
interface Subject {
  readonly system: System
  readonly running: Running
  readonly nameservers: readonly ScriptedNameserver[]
  /** Their script without a fault. */
  readonly right: ScriptedNameserver['script']
  /** The addresses in DNS, by id. */
  readonly records: Map<string, readonly string[]>
}

/** Zones that only one scenario uses, each with its own receiver. */
function zonesOf(kind: string, from: number): Zone[] {
  return Array.from({ length: zonesOfEach }, (_, i) => ({
    id: `${kind}${i + 1}`,
    hostName: `zone${kind}${i + 1}-default.${searchDomain}`,
    address: receiverAddresses[from + i] as string,
  }))
}
const [used, halfDead, silentNew, servfailNew, scanNew] = [
  zonesOf('used', 0),
  zonesOf('half', 10),
  zonesOf('silent', 20),
  zonesOf('servfail', 30),
  zonesOf('scan', 40),
] as const
const all = [...used, ...halfDead, ...silentNew, ...servfailNew, ...scanNew]

/** Runs every scenario with every system. Takes about two minutes. Leaves out a system whose measurement failed. */
export async function measureFaults(stage: Stage, systems: readonly System[]): Promise<FaultFigures[]> {
  const processes: Processes[] = []
  const subjects: Subject[] = []
  try {
    for (const system of systems) {
      const own = new Processes()
      processes.push(own)
      const subject = await startSubject(stage, system, own).catch((error: Error) =>
        console.log(`faults, ${system.name}: left out: ${error.message}`),
      )
      if (subject !== undefined) subjects.push(subject)
    }
    const addressDead = await together('one of two addresses is dead', subjects, shareWithDeadAddress)
    const movedSeconds = await together('zones move', subjects, secondsToMove)
    const silentNameserver = await together('the first nameserver is silent', subjects, (subject) =>
      firstRequests(subject, silentNew, silent),
    )
    const servfailNameserver = await together('the first nameserver answers SERVFAIL', subjects, (subject) =>
      firstRequests(subject, servfailNew, (query) => query.reply({ rcode: 2 })),
    )
    const scans: (ScanFigures | undefined)[] = []
    for (const subject of subjects) {
      scans.push(...(await together('a scan of random ids', [subject], (one) => underScan(stage, one))))
    }
    const outage = await together('both nameservers are silent', subjects, shareInOutage)
    return subjects.flatMap(({ system: { name, title } }, i) => {
      const figures = {
        addressDead: addressDead[i],
        movedSeconds: movedSeconds[i],
        silentNameserver: silentNameserver[i],
        servfailNameserver: servfailNameserver[i],
        scan: scans[i],
        outage: outage[i],
      }
      return Object.values(figures).includes(undefined)
        ? []
        : [{ system: name, title, ...figures } as FaultFigures]
    })
  } finally {
    for (const own of processes) await own.stop()
    for (const { nameservers } of subjects) for (const one of nameservers) await one.stop()
  }
}

/** Measures all systems at the same time; undefined for a system whose measurement failed. */
async function together<Figure>(
  fault: string,
  subjects: readonly Subject[],
  measure: (subject: Subject) => Promise<Figure>,
): Promise<(Figure | undefined)[]> {
  return Promise.all(
    subjects.map(async (subject) => {
      const note = (text: string) => console.log(`faults, ${fault}, ${subject.system.name}: ${text}`)
      try {
        const figure = await measure(subject)
        note(JSON.stringify(figure))
        return figure
      } catch (error) {
        note(`failed: ${(error as Error).message}`)
        return undefined
      }
    }),
  )
}

async function startSubject(stage: Stage, system: System, processes: Processes): Promise<Subject> {
  const records = new Map<string, readonly string[]>(all.map(({ id, address }) => [id, [address]]))
  for (const { id, address } of halfDead) records.set(id, [address, deadAddress])
  let turn = 0
  const right = answering(records, () => turn++)
  const nameservers = [await startNameserver(right, '127.0.1.54'), await startNameserver(right, '127.0.1.55')]
  try {
    const setting = {
      ...settingOf(stage, all, processes),
      nameservers: nameservers.map(({ host: address, port }) => ({ address, port })),
      ttlSeconds,
    }
    const running = await system.start(setting)
    await verify(system, running, used)
    return { system, running, nameservers, right, records }
  } catch (error) {
    for (const one of nameservers) await one.stop()
    throw error
  }
}

/** Right answers. As with most nameservers, the order of several addresses changes with each answer. */
function answering(
  records: ReadonlyMap<string, readonly string[]>,
  turn: () => number,
): ScriptedNameserver['script'] {
  return (query) => {
    const addresses = records.get(/^zone(\w+)-/.exec(query.name)?.[1] ?? '')
    if (addresses === undefined) {
      query.reply({ rcode: 3, authorities: [soa(searchDomain, negativeTtlSeconds)] })
      return
    }
    const first = query.type === 'A' ? turn() % addresses.length : 0
    const rotated = [...addresses.slice(first), ...addresses.slice(0, first)]
    query.reply({
      answers: query.type === 'A' ? rotated.map((address) => a(query.name, address, ttlSeconds)) : [],
    })
  }
}

/** The status; 0 when no answer came in time. */
async function statusOf(ask: Ask, { id }: Zone): Promise<number> {
  return (await ask('POST', id).catch(() => ({ status: 0 }))).status
}

const share = (statuses: readonly number[]): number =>
  statuses.filter((status) => status === 200).length / statuses.length

function withAsk<Result>({ running }: Subject, use: (ask: Ask) => Promise<Result>): Promise<Result> {
  return asking(running, use, answerWithinMs)
}

function shareWithDeadAddress(subject: Subject): Promise<number> {
  return withAsk(subject, async (ask) => {
    const statuses: number[] = []
    for (let turn = 0; turn < requestsOfEach; turn++) {
      statuses.push(...(await Promise.all(halfDead.map((zone) => statusOf(ask, zone)))))
      await sleep(betweenRequestsMs)
    }
    return share(statuses)
  })
}

function secondsToMove(subject: Subject): Promise<number | null> {
  return withAsk(subject, async (ask) => {
    // Every cache begins with a fresh answer.
    await sleep(ttlSeconds * 1000)
    await Promise.all(used.map((zone) => statusOf(ask, zone)))
    for (const zone of used) subject.records.set(zone.id, [movedAddressOf(zone)])
    const began = performance.now()
    const untilMoved = async (zone: Zone): Promise<number> => {
      while (performance.now() - began < movedWithinMs) {
        const { body } = await ask('POST', zone.id).catch(() => ({ body: '' }))
        if (body.startsWith(`${movedAddressOf(zone)} `)) return performance.now() - began
        await sleep(betweenRequestsMs)
      }
      return Number.POSITIVE_INFINITY
    }
    const slowestMs = Math.max(...(await Promise.all(used.map(untilMoved))))
    return Number.isFinite(slowestMs) ? slowestMs / 1000 : null
  })
}

/** An address that no zone had before. */
function movedAddressOf({ address }: Zone): string {
  return receiverAddresses[receiverAddresses.indexOf(address) + 100] as string
}

async function firstRequests(
  subject: Subject,
  zones: readonly Zone[],
  fault: ScriptedNameserver['script'],
): Promise<FirstRequests> {
  const first = subject.nameservers[0] as ScriptedNameserver
  first.script = fault
  try {
    return await withAsk(subject, async (ask) => {
      const took: number[] = []
      const statuses = await Promise.all(
        zones.map(async (zone) => {
          const began = performance.now()
          const status = await statusOf(ask, zone)
          took.push(performance.now() - began)
          return status
        }),
      )
      return { answered: share(statuses), slowestMs: Math.max(...took) }
    })
  } finally {
    first.script = subject.right
  }
}

function shareInOutage(subject: Subject): Promise<number> {
  return withAsk(subject, async (ask) => {
    const askAllOnce = () => Promise.all(used.map((zone) => statusOf(ask, zone)))
    await askAllOnce()
    for (const one of subject.nameservers) one.script = silent
    try {
      const until = performance.now() + outageMs
      while (performance.now() < until) {
        await askAllOnce()
        await sleep(500)
      }
      return share(await askAllOnce())
    } finally {
      for (const one of subject.nameservers) one.script = subject.right
    }
  })
}

async function underScan(stage: Stage, subject: Subject): Promise<ScanFigures> {
  const { running, nameservers } = subject
  const namesAsked = () => nameservers.flatMap(({ queries }) => queries.map(({ name }) => name))
  const bytes = () =>
    [...usageOf(running.children.map(({ pid }) => pid)).values()].reduce(
      (sum, use) => sum + use.memoryBytes,
      0,
    )
  return withAsk(subject, async (ask) => {
    const [askedBefore, bytesBefore] = [namesAsked().filter(isUsed).length, bytes()]
    const over = new AbortController()
    const inUse: number[] = []
    const line = async (zone: Zone) => {
      while (!over.signal.aborted) {
        inUse.push(await statusOf(ask, zone))
        await sleep(50)
      }
    }
    const lines = used.slice(0, 4).map(line)
    const scanned = runScan(stage, running.port)
    await sleep((scan.seconds * 1000) / 2)
    const tries = await Promise.all(scanNew.map((zone) => triesOf(ask, zone)))
    const answered = await scanned
    over.abort()
    await Promise.all(lines)
    const names = namesAsked()
    const asked = names.filter(isScanned)
    return {
      // wrk does not count requests that still wait when it ends.
      queriesPerId: asked.length / Math.max(answered, new Set(asked).size),
      idsPerSecond: answered / scan.seconds,
      inUse: share(inUse),
      queriesInUse: (names.filter(isUsed).length - askedBefore) / inUse.length,
      newZones: tries.filter((count) => count === 1).length / tries.length,
      newZonesRetried: tries.filter((count) => count <= 3).length / tries.length,
      addedMebibytes: (bytes() - bytesBefore) / 2 ** 20,
    }
  })
}

/** Which try got 200; infinity: none of three, half a second apart. */
async function triesOf(ask: Ask, zone: Zone): Promise<number> {
  for (let count = 1; count <= 3; count++) {
    if ((await statusOf(ask, zone)) === 200) return count
    await sleep(500)
  }
  return Number.POSITIVE_INFINITY
}

const isUsed = (name: string): boolean => name.startsWith('zoneused')
/** The ids of scan.lua are an x with twelve digits. */
const isScanned = (name: string): boolean => /^zonex\d{12}-/.test(name)
const scanScript = fileURLToPath(new URL('../test/soak/scan.lua', import.meta.url))

/** @returns how many random ids were requested */
async function runScan({ processes, wrk }: Stage, port: number): Promise<number> {
  const child = await processes.start('wrk', wrk, [
    ...['-t1', `-c${scanConnections}`, `-d${scan.seconds}s`, '-s', scanScript, `http://127.0.0.1:${port}`],
    ...['--', `${scan.idsPerSecond}`, '1'],
  ])
  await child.exit
  const [result] = /^\{"requests".*\}$/m.exec(child.output()) ?? []
  if (result === undefined) throw new Error(`wrk failed: ${child.output()}`)
  return (JSON.parse(result) as { requests: number }).requests
}
