import type { Fence } from './fence.ts'
import { CALLERS_FENCES } from './fences-of-callers.ts'
import { DNS_FENCES } from './fences-of-dns.ts'
import { FALLBACK_FENCES } from './fences-of-fallback.ts'
import { IDS_FENCES } from './fences-of-ids.ts'
import { NEIGHBOURS_FENCES } from './fences-of-neighbours.ts'
import { UPSTREAMS_FENCES } from './fences-of-upstreams.ts'

/**
 * The fences of docs/threat-model.md and docs/operations.md#bounds that Zonegate builds. What the parsers of Envoy and Node
 * refuse by themselves is not among them.
 */
export const FENCES: readonly Fence[] = [
  ...CALLERS_FENCES,
  ...IDS_FENCES,
  ...DNS_FENCES,
  ...FALLBACK_FENCES,
  ...NEIGHBOURS_FENCES,
  ...UPSTREAMS_FENCES,
]
