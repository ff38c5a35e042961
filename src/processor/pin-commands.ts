import * as z from 'zod'
import { type ZonesConfig, zonesFaults, zones as zonesSchema } from '../config/zones.ts'
import type { PinCommands } from '../pins/pin-socket.ts'
import {
  BECAUSE_LENGTH_MAX,
  PIN_SECONDS_MAX,
  type Pin,
  type Pins,
  pinSchema,
  WHO_LENGTH_MAX,
} from '../pins/pins.ts'
import type { Running } from './running.ts'

/** What `zonegate pin` sends. */
const asked = z.strictObject({
  zone: z.string(),
  addresses: z.array(z.string()),
  forSeconds: z.int().min(1).max(PIN_SECONDS_MAX),
  because: z.string().max(BECAUSE_LENGTH_MAX),
  who: z.string().max(WHO_LENGTH_MAX),
})

export interface Pinned {
  readonly pin: Pin
  /** Why a restart would undo the command. Null if it would not. */
  readonly fault: string | null
}

/** Runs the commands about pins, which obey the same checks as `zones` of the configuration in force. */
export function pinCommands(pins: Pins, running: () => Running, date: () => Date): PinCommands {
  return {
    pin: (value): Pinned => {
      const { forSeconds, ...said } = checked(asked, value)
      if (said.zone.endsWith('*')) throw new Error(`expected one id: "${said.zone}" can't be pinned`)
      requireSound({ [said.zone]: { addresses: said.addresses } }, running())
      const since = date()
      const until = new Date(since.getTime() + forSeconds * 1000)
      const pin = checked(pinSchema, { ...said, since: since.toISOString(), until: until.toISOString() })
      return { pin, fault: pins.set(pin) }
    },
    unpin: (value): Pinned => {
      const { zone } = checked(z.strictObject({ zone: z.string() }), value)
      const { pin, fault } = pins.remove(zone)
      if (pin === null) throw new Error(`there is no pin of "${zone}"; "zonegate pins" lists all pins`)
      return { pin, fault }
    },
  }
}

/** @throws Error with what the checks of `zones` find */
function requireSound(zones: unknown, { rules, config }: Running): void {
  const sound: ZonesConfig = checked(zonesSchema, zones)
  const [fault] = zonesFaults(sound, rules, config.addresses.allow)
  if (fault !== undefined) throw new Error(fault.message)
}

/** @throws Error with the first fault */
function checked<Value>(schema: z.ZodType<Value>, value: unknown): Value {
  const { data, error } = schema.safeParse(value)
  if (error === undefined) return data
  const [issue] = error.issues
  throw new Error(issue?.message ?? 'expected something else')
}
