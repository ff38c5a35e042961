import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CertificateFolder } from '../../test/support/certificates.ts'
import type { Certificates } from '../grpc/certificates.ts'
import { LiveCertificates } from './live-certificates.ts'

test('certificates saved between the first reading and the start of the watch come into force', async (context) => {
  const folder = new CertificateFolder()
  context.after(() => folder.remove())
  folder.authority('ca')
  folder.issue('processor', 'ca', { usage: 'serverAuth' })
  const files = {
    cert: folder.path('processor.pem'),
    key: folder.path('processor.key'),
    clientCa: folder.path('ca.pem'),
  }
  const log = { info: () => {}, warn: () => {}, error: () => {} }
  const live = new LiveCertificates(files, { log, date: () => new Date(), onBug: assert.fail })
  const { cert } = folder.issue('processor', 'ca', { usage: 'serverAuth' })
  const { promise, resolve } = Promise.withResolvers<Certificates>()
  context.after(live.watch(resolve))
  // The watch itself doesn't keep the process alive.
  const patience = setTimeout(() => assert.fail('not in time'), 10_000)
  assert.equal(String((await promise).cert), cert)
  clearTimeout(patience)
})
