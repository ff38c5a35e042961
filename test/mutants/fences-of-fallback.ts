import type { Fence } from './fence.ts'

const ROUTES = 'src/envoy-files/fallback.ts'
const CLUSTER = 'src/envoy-files/names-cluster.ts'
const ATTACK = 'test/e2e/attack-fallback.test.ts'
const READING = 'test/e2e/same-reading.test.ts'

/** What keeps requests from where they must not go while the processor is away. */
export const FALLBACK_FENCES: readonly Fence[] = [
  {
    attack: 'an answer without an address that is passed over',
    file: ROUTES,
    text: '(?:(?:14|4) ',
    without: '(?:(?:[0-9]+) ',
    test: 'test/e2e/processor-failures.test.ts',
    titles: /a reply without a mutation/,
  },
  {
    attack: 'an address in an answer that is none',
    file: 'src/envoy-files/render.ts',
    text: '[fallback.wrongAnswer]',
    without: '[]',
    test: 'test/e2e/processor-failures.test.ts',
    titles: /an answer to another question/,
  },
  {
    attack: 'an id that the rule does not take, to Envoy alone',
    file: ROUTES,
    text: '[idPattern, fits].map',
    without: '[fits].map',
    test: READING,
    titles: /is never anything else/,
  },
  {
    attack: 'an id that is there twice, to Envoy alone',
    file: ROUTES,
    text: 'headers: key.conditions,',
    without: 'headers: [],',
    test: READING,
    titles: /is never anything else/,
  },
  {
    attack: 'a request that goes to the service of other paths, to Envoy alone',
    file: ROUTES,
    text: 'services.map(({ label }) => nameOfService(label))',
    without: "[nameOfService('')]",
    test: 'src/envoy-files/fallback.test.ts',
    titles: /too long for the service of its path/,
  },
  {
    attack: 'a request that "forward" does not take, to Envoy alone',
    file: 'src/envoy-files/render.ts',
    text: '[...own, ...headers]',
    without: '[...headers]',
    test: 'src/envoy-files/fallback.test.ts',
    titles: /what "forward" demands/,
  },
  {
    attack: 'a name out of the search domain, to Envoy alone',
    file: CLUSTER,
    text: 'dns_resolver_options: { no_default_search_domain: true },',
    without: '',
    test: ATTACK,
    titles: /search domain of the system/,
  },
  {
    attack: 'a denied address behind an allowed one, to Envoy alone',
    file: CLUSTER,
    text: 'withoutRanges(fence.denied, fence.allowed)',
    without: "withoutRanges(['198.51.100.0/24'], [])",
    test: ATTACK,
    titles: /a denied address is never dialled/,
  },
  {
    attack: 'a denied address that was in no answer, to Envoy alone',
    file: CLUSTER,
    text: 'fenceFilter(dns.fence),',
    without: '',
    test: 'src/envoy-files/names-cluster.test.ts',
    titles: /the fence stands in front/,
  },
  {
    attack: 'a flood of queries by Envoy itself',
    file: CLUSTER,
    text: 'dns_cache_circuit_breaker: { max_pending_requests: queriesInFlightMax },',
    without: '',
    test: ATTACK,
    titles: /at most dns.queriesInFlightMax/,
  },
  {
    attack: "a scan that fills Envoy's memory with names",
    file: CLUSTER,
    text: 'max_hosts: namesMax,',
    without: 'max_hosts: 20000,',
    test: ATTACK,
    titles: /at most dns.cacheEntriesMax/,
  },
  {
    attack: "a scan that keeps Envoy's places for names",
    file: CLUSTER,
    text: 'dns_refresh_rate: ABSENT_LASTS,',
    without: '',
    test: ATTACK,
    titles: /names that are not there/,
  },
  {
    attack: "a scan that keeps Envoy's places while nameservers fail",
    file: CLUSTER,
    text: 'dns_failure_refresh_rate: { base_interval: ABSENT_LASTS, max_interval: ABSENT_LASTS },',
    without: 'disable_dns_refresh_on_failure: true,',
    test: ATTACK,
    titles: /names that no nameserver answers for/,
  },
]
