import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { startGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { startZoneNameserver } from '../support/zone-nameserver.ts'

/** What Envoy answers by itself has the reason it has, and blames nobody else. */
interface Case {
  readonly title: string
  /** An edit of a file in envoy/. */
  readonly files: readonly string[]
  readonly edit: (text: string) => string
  readonly status: number
  readonly reason: string
}

const CASES: Case[] = [
  {
    title: "a route of the operator's own to a cluster that is not there",
    files: ['routes.yaml'],
    edit: (text) =>
      text.replace(
        '    - name: loop_detected\n',
        '    - name: own\n      match: { prefix: "/" }\n      route: { cluster: nowhere }\n$&',
      ),
    status: 503,
    reason: 'gateway_error',
  },
  {
    title: 'the cluster of forward has not come from the processor',
    files: ['clusters.yaml'],
    edit: () => 'resources: []\n',
    status: 502,
    reason: 'processor_unavailable',
  },
  {
    title: 'a route that is not there',
    files: ['routes.yaml'],
    edit: (text) => text.replaceAll('match: { prefix: "/"', 'match: { prefix: "/elsewhere"'),
    status: 503,
    reason: 'gateway_error',
  },
  {
    title: "a route of the operator's own that refuses",
    files: ['routes.yaml'],
    edit: (text) =>
      text.replace(
        '    - name: loop_detected\n',
        '    - name: closed\n      match: { prefix: "/" }\n      direct_response: { status: 403 }\n$&',
      ),
    status: 403,
    reason: 'refused_by_policy',
  },
  {
    title: "an HTTP filter of the operator's own that refuses",
    files: ['listener.yaml'],
    edit: (text) =>
      text.replace(
        '        - name: ext_proc\n',
        '        - name: closed\n          typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: { action: ALLOW } }\n$&',
      ),
    status: 403,
    reason: 'refused_by_policy',
  },
  {
    title: 'a bucket of the operator that is empty',
    files: ['listener.yaml'],
    edit: (text) =>
      text.replace(
        '        - name: ext_proc\n',
        '        - name: bucket\n          typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: bucket, token_bucket: { max_tokens: 1, fill_interval: 3600s }, filter_enabled: { default_value: { numerator: 100 } }, filter_enforced: { default_value: { numerator: 100 } } }\n$&',
      ),
    status: 429,
    reason: 'rate_limited',
  },
]

suite('reasons of the gateway itself', () => {
  for (const { title, files, edit, status, reason } of CASES)
    test(`${title}: ${status} ${reason}`, async (context) => {
      const port = await freePort('127.0.94.1')
      const nameserver = await startZoneNameserver({
        'zone1-default.game.test': ['127.0.94.1'],
        'zone2-default.game.test': ['127.0.94.2'],
      })
      context.after(() => nameserver.close())
      const gateway = await startGateway({
        config: {
          rules: { port },
          dns: { nameservers: [nameserver.address], search: 'game.test' },
          addresses: { allow: ['127.0.94.0/24'] },
          learned: { enabled: false },
        },
        edit: Object.fromEntries(files.map((file) => [file, edit])),
      })
      context.after(() => gateway.stop())
      let seen: unknown[] = []
      // A bucket has a token for a first request, a cache room for a first address.
      for (const id of ['1', '2']) {
        const answer = await call(gateway.port, { headers: [['server', id]] })
        seen = [answer.status, answer.json()['reason']]
      }
      assert.deepEqual(seen, [status, reason])
    })
})
