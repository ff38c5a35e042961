import type { Fence } from './fence.ts'

const TEST = 'test/e2e/upstream-tls.test.ts'

/** What stops whoever has a zone's address, and a mistake that would send in plain text what is for TLS. */
export const UPSTREAMS_FENCES: readonly Fence[] = [
  {
    attack: 'a certificate of another name at the address of a zone',
    file: 'src/xds/upstream.ts',
    text: 'auto_sni_san_validation: true',
    without: 'auto_sni_san_validation: false',
    test: TEST,
    titles: /another name in the certificate/,
  },
  {
    attack: 'a route in plain text for what is for TLS',
    file: 'src/ext-proc/messages.ts',
    text: 'stringValue: upstream === undefined ? authority',
    without: 'stringValue: upstream?.http !== 2 ? authority',
    test: TEST,
    titles: /dialled by its address/,
  },
  {
    attack: 'a request for TLS without the name of its zone',
    file: 'src/xds/upstream.ts',
    text: "const NO_NAME = 'unset.invalid'",
    without: "const NO_NAME = ''",
    test: 'src/xds/upstream.test.ts',
    titles: /without a name/,
  },
  {
    attack: 'a denied address of a zone by TLS, named by the processor',
    file: 'src/processor/envoy-control.ts',
    text: 'clusters.map((each) => coldClusterResource(each, fence))',
    without:
      'clusters.map((each, at) => coldClusterResource(each, at === 0 ? fence : { denied: ["203.0.113.0/24"], allowed: [] }))',
    test: TEST,
    titles: /denied addresses/,
  },
]
