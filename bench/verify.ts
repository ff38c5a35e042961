import { setTimeout as sleep } from 'node:timers/promises'
import { type Answer, type Ask, askEach, asking, expectStatus } from './ask.ts'
import type { Running, System } from './systems/system.ts'
import type { Zone } from './zones.ts'

/** Proves that a system does its job before its cost is measured: a fast wrong answer is worth nothing. */

const readyWithinMs = 10_000

/** Asks for every zone once, and for what must be refused. Throws what was wrong. */
export async function verify(system: System, running: Running, zones: readonly Zone[]): Promise<void> {
  await asking(running, async (ask) => {
    await untilForwarding(ask, zones[0] as Zone)
    await askEach(ask, zones, (zone, got) => expectZone(system, zone, got))
    if (system.routesByZone) {
      expectStatus(405, await ask('GET', '1'), 'a GET')
      expectStatus(403, await ask('POST'), 'a POST without an id')
    }
  })
}

/** A proxy that listens may still be waiting for its control plane or its first DNS answer. */
async function untilForwarding(ask: Ask, zone: Zone): Promise<void> {
  const deadline = Date.now() + readyWithinMs
  for (;;) {
    const { status } = await ask('POST', zone.id).catch(() => ({ status: 0 }))
    if (status === 200) return
    if (Date.now() > deadline)
      throw new Error(`zone ${zone.id} still gets ${status} after ${readyWithinMs} ms`)
    await sleep(50)
  }
}

function expectZone(system: System, zone: Zone, got: Answer): void {
  expectStatus(200, got, `zone ${zone.id}`)
  const [address] = got.body.split(' ')
  if (system.routesByZone && address !== zone.address) {
    throw new Error(`zone ${zone.id} was forwarded to ${address}, its address is ${zone.address}`)
  }
}
