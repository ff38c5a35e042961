import type { Fence } from './fence.ts'

const ENVOY = 'envoy/envoy.yaml'
const MESSAGES = 'test/integration/dns-faults-messages.test.ts'
const CACHE = 'test/integration/dns-faults-cache.test.ts'
const FORGERY = 'test/integration/dns-forgery.test.ts'

/** What stops nameservers, and whoever is not on the way to them. */
export const DNS_FENCES: readonly Fence[] = [
  {
    attack: 'a denied address in DNS, behind a CNAME, inside IPv6',
    file: 'src/routing/denied-addresses.ts',
    text: 'return !denied.check(address, family) || allowed.check(address, family)',
    without: 'return true',
    test: 'test/e2e/attack-denied-addresses.test.ts',
    titles: /processor's fence alone/,
  },
  {
    attack: 'the same inside IPv6 alone',
    file: 'src/routing/denied-addresses.ts',
    text: "const IPV4_CARRIERS = ['::', '64:ff9b::'] as const",
    without: 'const IPV4_CARRIERS: readonly string[] = []',
    test: 'test/e2e/attack-denied-addresses.test.ts',
    titles: /processor's fence alone/,
  },
  {
    attack: 'the same, named by the processor',
    file: ENVOY,
    text: 'name: envoy.filters.http.upstream_rbac\n          typed_config:\n            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC\n            rules:\n              action: ALLOW',
    without:
      'name: envoy.filters.http.upstream_rbac\n          typed_config:\n            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC\n            shadow_rules:\n              action: ALLOW',
    test: 'test/e2e/attack-denied-addresses.test.ts',
    titles: /Envoy's fence alone/,
  },
  {
    attack: "a forged answer: another query's id",
    file: 'src/dns/query.ts',
    text: '  if (response[0] !== query[0] || response[1] !== query[1]) return false\n',
    without: '',
    test: 'src/dns/query.test.ts',
    titles: /of another id/,
  },
  {
    attack: 'a forged answer: an id that is guessed',
    file: 'src/dns/dns.ts',
    text: 'randomId: () => randomInt(0x10000)',
    without: 'randomId: ((id) => () => id++ & 0xffff)(randomInt(0x10000))',
    test: FORGERY,
    titles: /says nothing about/,
  },
  {
    attack: 'a forged answer: a port that is guessed',
    file: 'src/dns/udp.ts',
    text: 'this.#socket.connect(port, host)',
    without:
      "this.#socket.bind({ port: 20_000 + (process.pid % 10_000), address: '127.0.0.1', exclusive: true })\n    this.#socket.connect(port, host)",
    test: FORGERY,
    titles: /a port of its own/,
  },
  {
    attack: 'a forged answer: a port that is searched for',
    file: 'src/dns/udp.ts',
    text: 'const SHARING_MS = 10\n',
    without: 'const SHARING_MS = 1e9\n',
    test: CACHE,
    titles: /for 10 ms after it was opened/,
  },
  {
    attack: 'a forged answer: a port for all at once',
    file: 'src/dns/udp.ts',
    text: 'const QUERIES_PER_SOCKET_MAX = 128\n',
    without: 'const QUERIES_PER_SOCKET_MAX = 1e6\n',
    test: CACHE,
    titles: /given up after 128/,
  },
  {
    attack: 'a forged answer: from another address or port',
    file: 'src/dns/udp.ts',
    text: 'this.#socket.connect(port, host)',
    without: `const socket = this.#socket
    const send = socket.send.bind(socket)
    Object.assign(socket, { send: (octets: Buffer) => send(octets, port, host) })
    socket.bind(0, () => void socket.emit('connect'))`,
    test: MESSAGES,
    titles: /22: the right id from another socket/,
  },
  {
    attack: 'a forged answer: to another question',
    file: 'src/dns/query.ts',
    text: 'return sameQuestion(query, response)',
    without: 'return true || sameQuestion(query, response)',
    test: MESSAGES,
    titles: /23: another/,
  },
  {
    attack: 'a query, as its own answer',
    file: 'src/dns/query.ts',
    text: '(flags & QR) === 0 || ',
    without: '',
    test: MESSAGES,
    titles: /24: the query itself/,
  },
  {
    attack: 'a malformed answer: more than its records',
    file: 'src/dns/decode.ts',
    text: 'if (this.#at !== this.#octets.length)',
    without: 'if (this.#at > this.#octets.length)',
    test: MESSAGES,
    titles: /27: octets behind/,
  },
  {
    attack: 'a malformed answer: names too long',
    file: 'src/dns/domain-name.ts',
    text: 'if (length > LABEL_OCTETS_MAX || octets > NAME_OCTETS_MAX || ',
    without: 'if (',
    test: MESSAGES,
    titles: /28: a (label of 64|name of 257)/,
  },
  {
    attack: 'CNAMEs without end',
    file: 'src/dns/classify.ts',
    text: 'export const CNAME_CHAIN_MAX = 8\n',
    without: 'export const CNAME_CHAIN_MAX = 10_000\n',
    test: MESSAGES,
    titles: /30: a chain of 20|fails within the budget/,
  },
  {
    attack: 'addresses without end',
    file: 'src/dns/address-resolver.ts',
    text: 'const ADDRESSES_MAX = 32\n',
    without: 'const ADDRESSES_MAX = 32_000\n',
    test: MESSAGES,
    titles: /36: of 500 addresses/,
  },
  {
    attack: 'addresses of other names in the answer',
    file: 'src/dns/classify.ts',
    text: 'if (record.type !== type || record.name !== chain.end) continue',
    without: 'if (record.type !== type) continue',
    test: MESSAGES,
    titles: /32: addresses of other names/,
  },
  {
    attack: 'more queries at once than are allowed',
    file: 'src/dns/caching-resolver.ts',
    text: "    if (this.queriesInFlight + queriesPerName > limit) return 'overloaded'\n",
    without: '    void limit\n',
    test: 'test/integration/dns-faults-nameservers.test.ts',
    titles: /bounded in memory and in flight/,
  },
  {
    attack: 'more names than are kept',
    file: 'src/dns/segmented-lru.ts',
    text: 'if (probation.length + protectedList.length <= this.#entriesMax) return',
    without: 'if (probation.length + protectedList.length <= 1e9) return',
    test: 'test/integration/dns-faults-nameservers.test.ts',
    titles: /bounded in memory and in flight/,
  },
  {
    attack: 'more zones than are learned',
    file: 'src/zones/learned-zones.ts',
    text: 'if (this.#learned.size >= this.#options.zonesMax && !this.#makeRoom(nowMs)) return',
    without: 'if (this.#learned.size >= 1e9 && !this.#makeRoom(nowMs)) return',
    test: 'src/zones/learned-zones.test.ts',
    titles: /beyond zonesMax/,
  },
  {
    attack: 'a denied address, IPv4-mapped',
    file: 'src/routing/denied-addresses.ts',
    text: 'return !denied.check(address, family) || ',
    without: "return address.startsWith('::ffff:') || !denied.check(address, family) || ",
    test: 'test/e2e/attack-denied-addresses.test.ts',
    titles: /processor's fence alone/,
  },
  {
    attack: 'the same, named by the processor',
    file: ENVOY,
    text: 'address_prefix: "::ffff:127.0.0.0", prefix_len: 104',
    without: 'address_prefix: "::ffff:192.0.2.0", prefix_len: 120',
    test: 'test/e2e/attack-denied-addresses.test.ts',
    titles: /Envoy's fence alone/,
  },
]
