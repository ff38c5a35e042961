import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { test } from 'node:test'
import { flood, outcomeOf } from './flood.ts'

for (const { what, received, outcome } of [
  { what: 'half a head', received: 'HTTP/1.1 200 OK\r\ncontent-le', outcome: undefined },
  { what: 'half a body', received: 'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab', outcome: undefined },
  {
    what: 'a whole answer',
    received: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab',
    outcome: { text: '200', closes: false },
  },
  {
    what: 'a refusal that ends the connection',
    received: 'HTTP/1.1 502 Bad Gateway\r\nx-zonegate-reason: no_address\r\nconnection: close\r\n\r\n',
    outcome: { text: '502 no_address', closes: true },
  },
]) {
  test(`${what} is ${outcome === undefined ? 'not complete' : 'complete'}`, () =>
    assert.deepEqual(outcomeOf(received), outcome))
}

test('a flood sends exactly as many requests as it was told, and counts broken connections', async () => {
  let [connections, requests] = [0, 0]
  const server = createServer((socket) => {
    connections += 1
    socket.on('data', () => {
      requests += 1
      if (requests === 10) socket.destroy()
      else socket.write('HTTP/1.1 204 No Content\r\n\r\n')
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const { port } = server.address() as AddressInfo
    const { outcomes } = await flood({
      port,
      connections: 4,
      requests: 50,
      request: 'GET / HTTP/1.1\r\n\r\n',
    })
    assert.deepEqual(Object.fromEntries(outcomes), { 204: 49, 'connection closed': 1 })
    assert.equal(requests, 50)
    assert.equal(connections, 5)
  } finally {
    server.close()
  }
})
