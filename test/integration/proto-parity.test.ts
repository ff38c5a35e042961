import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import path from 'node:path'
import { test } from 'node:test'
import { loadSync, type PackageDefinition } from '@grpc/proto-loader'
import { definitions } from '../../src/grpc/protos.ts'
import { type FieldSchema, messageSchemas } from '../../src/xds/message-schema.ts'

/** Envoy's API as published in the npm package @grpc/grpc-js-xds: the same folders as on GitHub. */
const official = loadSync(
  [
    'envoy/service/ext_proc/v3/external_processor.proto',
    'envoy/service/discovery/v3/ads.proto',
    'envoy/service/load_stats/v3/lrs.proto',
    'envoy/config/cluster/v3/cluster.proto',
    'envoy/config/endpoint/v3/endpoint.proto',
    'envoy/config/route/v3/route_components.proto',
    'envoy/extensions/upstreams/http/v3/http_protocol_options.proto',
    'envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto',
    'envoy/type/matcher/v3/http_inputs.proto',
  ],
  {
    keepCase: true,
    includeDirs: ['envoy-api', 'xds', 'googleapis', 'protoc-gen-validate'].map((folder) =>
      path.join(
        path.dirname(createRequire(import.meta.url).resolve('@grpc/grpc-js-xds/package.json')),
        'deps',
        folder,
      ),
    ),
  },
)

/** Not in that package: https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto */
const HEALTH: Record<string, Record<string, string | number>> = {
  'grpc.health.v1.HealthCheckRequest': { service: 'singular string = 1' },
  'grpc.health.v1.HealthCheckResponse': {
    status: 'singular grpc.health.v1.HealthCheckResponse.ServingStatus = 1',
  },
  'grpc.health.v1.HealthCheckResponse.ServingStatus': {
    UNKNOWN: 0,
    SERVING: 1,
    NOT_SERVING: 2,
    SERVICE_UNKNOWN: 3,
  },
}

const ours = messageSchemas(definitions)
const theirs = messageSchemas(official)
const text = (field: FieldSchema) => `${field.label} ${field.typeName || field.type} = ${field.number}`
const inHealth = (name: string) => name.startsWith('grpc.health.v1.')

for (const message of ours.messages.values()) {
  test(`${message.name} has the official fields`, () => {
    const reference = theirs.messages.get(message.name)
    for (const field of message.fields.values()) {
      const expected = inHealth(message.name)
        ? HEALTH[message.name]?.[field.name]
        : reference?.fields.get(field.name) && text(reference.fields.get(field.name) as FieldSchema)
      assert.equal(text(field), expected, field.name)
    }
    if (inHealth(message.name)) return
    assert.ok(reference, 'message exists')
    for (const oneof of message.oneofs) assert.ok(reference.oneofs.includes(oneof), `oneof ${oneof}`)
  })
}

for (const enumeration of ours.enums.values()) {
  test(`${enumeration.name} has the official values`, () => {
    const reference = inHealth(enumeration.name)
      ? new Map(Object.entries(HEALTH[enumeration.name] ?? {}))
      : theirs.enums.get(enumeration.name)?.values
    for (const [name, number] of enumeration.values) assert.equal(number, reference?.get(name), name)
  })
}

test('services have the official methods', () => {
  const methods = (all: PackageDefinition) =>
    Object.entries(all).flatMap(([, definition]) =>
      'format' in definition
        ? []
        : Object.values(definition).map((method) =>
            [
              method.path,
              method.requestStream ? 'stream' : 'one',
              (method.requestType.type as { name: string }).name,
              method.responseStream ? 'stream' : 'one',
              (method.responseType.type as { name: string }).name,
            ].join(' '),
          ),
    )
  const known = new Set([
    ...methods(official),
    '/grpc.health.v1.Health/Check one HealthCheckRequest one HealthCheckResponse',
    '/grpc.health.v1.Health/Watch one HealthCheckRequest stream HealthCheckResponse',
  ])
  const mine = methods(definitions)
  assert.equal(mine.length, 5)
  assert.deepEqual(
    mine.filter((method) => !known.has(method)),
    [],
  )
})
