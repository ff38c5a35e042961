/**
 * A separate process that reads and checks `zonegate.yaml` (see load-apart.ts). Prints the outcome as one line of JSON.
 * usage: reader.ts [FILE]
 */
import { ConfigError } from './faults.ts'
import { loadConfig } from './load.ts'
import type { Outcome } from './load-apart.ts'

function outcome(path: string | undefined): Outcome {
  try {
    return { loaded: loadConfig(path, process.env) }
  } catch (error) {
    if (error instanceof ConfigError) return { faults: error.details }
    throw error
  }
}

process.stdout.write(JSON.stringify(outcome(process.argv[2])))
