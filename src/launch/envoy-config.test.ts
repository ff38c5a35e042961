import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parse } from 'yaml'
import { renderEnvoyConfig } from './envoy-config.ts'

const text = readFileSync(new URL('../../envoy/envoy.yaml', import.meta.url), 'utf8')
const addresses = {
  listen: { host: '127.0.0.1', port: 1 },
  admin: { host: '127.0.0.2', port: 2 },
  processor: 'unix:run/other.sock',
}

/** Lines of `after` that `before` does not have at the same place. */
const changed = (before: string, after: string): string[] => {
  const lines = before.split('\n')
  return after.split('\n').filter((line, index) => line !== lines[index])
}

test('three lines change and no other', () => {
  const lines = changed(text, renderEnvoyConfig(text, addresses))
  assert.equal(lines.length, 3, lines.join('\n'))
})

test('the three values are where Envoy reads them', () => {
  const config = parse(renderEnvoyConfig(text, addresses))
  assert.deepEqual(config.static_resources.listeners[0].address, {
    socket_address: { address: '127.0.0.1', port_value: 1 },
  })
  assert.deepEqual(config.admin.address, { socket_address: { address: '127.0.0.2', port_value: 2 } })
  const processor = config.static_resources.clusters.find(
    ({ name }: { name: string }) => name === 'processor',
  )
  assert.deepEqual(processor.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address, {
    pipe: { path: 'run/other.sock' },
  })
})

test('a processor may be reached over TCP', () => {
  const rendered = renderEnvoyConfig(text, { ...addresses, processor: { host: '10.0.0.9', port: 9002 } })
  assert.match(rendered, /socket_address: \{ address: "10\.0\.0\.9", port_value: 9002 \}/)
})

test('addresses written in block style are replaced whole', () => {
  const block = [
    'admin:',
    '  address:',
    '    socket_address:',
    '      address: 0.0.0.0',
    '      port_value: 9',
    'static_resources:',
    '  listeners:',
    '  - name: callback',
    '    address:',
    '      socket_address: { address: 0.0.0.0, port_value: 8 }',
    '  clusters:',
    '  - name: processor',
    '    load_assignment: { endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: x } } } }] }] }',
    '',
  ].join('\n')
  const config = parse(renderEnvoyConfig(block, addresses))
  assert.deepEqual(config.admin.address, { socket_address: { address: '127.0.0.2', port_value: 2 } })
  assert.equal(config.static_resources.listeners[0].address.socket_address.port_value, 1)
})

test('a file without the listener says so', () => {
  assert.throws(
    () => renderEnvoyConfig(text.replace('- name: callback', '- name: other'), addresses),
    /expected static_resources\.listeners\.callback\.address, found no callback/,
  )
})
