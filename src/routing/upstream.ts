/** How Envoy reaches the receivers of a service, where it is not HTTP/1.1 in plain text. */
export interface Upstream {
  /** The name of the cluster in Envoy by which the processor's requests go. Those that are alike have the same. */
  readonly cluster: string
  readonly tls: UpstreamTls | null
  /** With 2, bodies are streamed. */
  readonly http: 1 | 2
}

/** Paths are of PEM files, as Envoy reads them. */
export interface UpstreamTls {
  /** CAs that sign zones' certificates; null: those of Envoy's machine. */
  readonly ca: string | null
  /** Envoy's own certificate; null: none. */
  readonly client: { readonly cert: string; readonly key: string } | null
  /** Pattern with `{id}`, `{service}` and `{search}` of the name that a certificate must have; null: the zone's name. */
  readonly serverName: string | null
}
