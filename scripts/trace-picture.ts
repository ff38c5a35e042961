// Prints the trace in docs/tracing.md from a real request: node scripts/with-node.mjs scripts/trace-picture.ts
import { startGateway } from '../test/support/gateway.ts'
import { call } from '../test/support/http.ts'
import { a, startNameserver } from '../test/support/nameserver.ts'
import { startOtlpReceiver } from '../test/support/otlp.ts'
import { freePort } from '../test/support/ports.ts'
import { eventually } from '../test/support/processor.ts'
import { startReceiver } from '../test/support/receiver.ts'
import { pictureOf } from '../test/support/trace-picture.ts'

const HOST = '127.0.73.9'
const CALLER = 'b7ad6b7169203331'
const port = await freePort(HOST)
const receiver = await startReceiver(HOST, port)
const collector = await startOtlpReceiver()
const nameserver = await startNameserver((query) => query.reply({ answers: [a(query.name, HOST, 60)] }))
const gateway = await startGateway({
  config: {
    tracing: { otlp: collector.url },
    rules: { port },
    dns: { nameservers: [nameserver.address], search: 'game.test' },
    addresses: { allow: ['127.0.73.0/24'] },
  },
})
const send = async (id: string, number: number): Promise<void> => {
  const traceId = `0af7651916cd43dd8448eb211c80${String(number).padStart(4, '0')}`
  const headers = [
    ['server', id],
    ['traceparent', `00-${traceId}-${CALLER}-01`],
  ] as const
  await call(gateway.port, { headers, body: 'x' })
  if (number === 0) return // the first one of a process is slow
  await eventually('the trace is whole', () => {
    const spans = collector.trace(traceId)
    return spans.some(({ name }) => name === 'ingress') && spans.some(({ name }) => name.startsWith('router'))
  })
  await new Promise((resolve) => setTimeout(resolve, 2000)) // the processor's part
  process.stdout.write(`${pictureOf(collector.trace(traceId), CALLER)}\n\n`)
}
await send('11', 0)
await send('12', 1)
await send('12', 2)
await new Promise((resolve) => setTimeout(resolve, 1000))
await send('12', 3)
await gateway.stop()
await nameserver.stop()
collector.stop()
await receiver.close()
