import { adminTargets } from './admin.ts'
import { dnsTargets } from './dns.ts'
import { extProcTargets } from './ext-proc.ts'
import { fileTargets } from './files.ts'
import type { Target } from './target.ts'
import { xdsTargets } from './xds.ts'

/** All inputs that strangers can reach. */
export const targets: readonly Target[] = [
  ...dnsTargets,
  ...extProcTargets,
  ...xdsTargets,
  ...fileTargets,
  ...adminTargets,
]
