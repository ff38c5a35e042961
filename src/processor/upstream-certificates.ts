import { readUpstreamCertificates, type UpstreamCertificate } from '../grpc/certificates.ts'
import { type Rules, upstreamsOf } from '../routing/rules.ts'

/** How long the processor keeps what it read: each scrape and each open page asks for the certificates. */
const LASTS_MS = 10_000

/** Reads the certificates of all files in `upstream.tls`, once for each use. Skips the CAs of Envoy's machine. */
export function certificatesOfUpstreams(rules: Rules, now: Date): UpstreamCertificate[] {
  const all = upstreamsOf(rules).flatMap(({ tls }) =>
    tls === null
      ? []
      : readUpstreamCertificates(
          { ca: tls.ca, cert: tls.client?.cert ?? null, key: tls.client?.key ?? null },
          now,
        ),
  )
  return [...new Map(all.map((one) => [`${one.use} ${one.file}`, one])).values()]
}

/** Keeps the result of `certificatesOfUpstreams` for a while. */
export class UpstreamCertificates {
  readonly #rules: () => Rules
  readonly #date: () => Date
  #known: { readonly rules: Rules; readonly atMs: number; readonly all: UpstreamCertificate[] } | undefined

  constructor(rules: () => Rules, date: () => Date) {
    this.#rules = rules
    this.#date = date
  }

  list(): readonly UpstreamCertificate[] {
    const [rules, now] = [this.#rules(), this.#date()]
    const age = now.getTime() - (this.#known?.atMs ?? 0)
    if (this.#known === undefined || this.#known.rules !== rules || age < 0 || age > LASTS_MS)
      this.#known = { rules, atMs: now.getTime(), all: certificatesOfUpstreams(rules, now) }
    return this.#known.all
  }
}
