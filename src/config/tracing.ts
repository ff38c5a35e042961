import type { TracingSettings } from '../envoy-files/tracing.ts'
import { type Config, collectorOf } from './schema.ts'

/** Undefined where no request is traced. */
export function tracingOf({ tracing: { otlp, samplePercent } }: Config): TracingSettings | undefined {
  const collector = otlp === null ? null : collectorOf(otlp)
  return collector === null ? undefined : { collector, samplePercent }
}
