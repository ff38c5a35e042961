/** What Envoy tells of itself on its admin page. */

/** Counters and gauges by name, those whose whole name matches; 0 is left out by nobody, unknown names are missing. */
export async function readStats(adminPort: number, names: readonly string[]): Promise<Map<string, number>> {
  const filter = `^(${names.map((name) => name.replaceAll('.', '\\.')).join('|')})$`
  const page = await readPage(adminPort, `/stats?filter=${encodeURIComponent(filter)}`)
  return new Map(
    [...page.matchAll(/^(\S+): (\d+)$/gm)].map(([, name, value]) => [name as string, Number(value)]),
  )
}

/** One counter or gauge; an error where Envoy has none of that name. */
export async function readStat(adminPort: number, name: string): Promise<number> {
  const value = (await readStats(adminPort, [name])).get(name)
  if (value === undefined) throw new Error(`Envoy has no statistic ${name}`)
  return value
}

export interface Durations {
  readonly count: number
  readonly totalMs: number
}

/** A histogram of milliseconds. Envoy adds up what its threads recorded every 5 seconds only (stats_flush_interval). */
export async function readDurations(adminPort: number, name: string): Promise<Durations> {
  const page = await readPage(
    adminPort,
    `/stats/prometheus?filter=${encodeURIComponent(`^${name.replaceAll('.', '\\.')}$`)}`,
  )
  const value = (suffix: string) =>
    Number(page.match(new RegExp(`^\\S+_${suffix}(?:\\{[^}]*\\})? ([\\d.e+]+)$`, 'm'))?.[1] ?? 0)
  return { count: value('count'), totalMs: value('sum') }
}

/** Memory that Envoy's allocator has handed out and not got back. */
export async function readAllocatedBytes(adminPort: number): Promise<number> {
  const { allocated } = JSON.parse(await readPage(adminPort, '/memory')) as { allocated: string }
  return Number(allocated)
}

async function readPage(adminPort: number, path: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${adminPort}${path}`, {
    signal: AbortSignal.timeout(10_000),
  })
  if (!response.ok) throw new Error(`Envoy's admin page ${path} answered ${response.status}`)
  return response.text()
}
