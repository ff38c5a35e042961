import { readUpstreamCertificates, type UpstreamCertificate } from '../grpc/certificates.ts'
import { type Rules, upstreamsOf } from '../routing/rules.ts'

/** Looked at again so often, milliseconds: they are asked for at each scrape, and by each page that is open. */
const LASTS_MS = 10_000

/** Of all files that `upstream.tls` names, each once for each use. The CAs of Envoy's machine are not looked at. */
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

/** As `certificatesOfUpstreams`, read once in a while. */
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
