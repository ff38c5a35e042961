/** The parts of a request that decide, as received, before any rewrite. */
export interface RequestHead {
  readonly method: string
  /** Path and query, as on the request line. */
  readonly path: string
  /** `:authority` or Host, with the port. */
  readonly authority: string
  /** Values of the headers that the rules look at, by name in lower case, in order. */
  readonly headers: Readonly<Record<string, readonly string[] | undefined>>
  /** The whole body, if a rule looks for an id in it. */
  readonly body?: Buffer
}

/** The literal path before `?`: no decoding and no normalisation, so `/mail/` and `/%6dail` are not `/mail`. */
export function pathOf(path: string): string {
  const query = path.indexOf('?')
  return query === -1 ? path : path.slice(0, query)
}

/** The host of an authority, in lower case, without its port. */
export function hostOf(authority: string): string {
  return authority.replace(/:\d*$/, '').toLowerCase()
}
