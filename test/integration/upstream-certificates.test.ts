import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { after, suite, test } from 'node:test'
import { readUpstreamCertificates } from '../../src/grpc/certificates.ts'
import { CertificateFolder } from '../support/certificates.ts'

suite('files of upstream.tls', () => {
  const files = new CertificateFolder()
  files.authority('zones')
  for (const [name, days] of [
    ['own', 30],
    ['next', 30],
    ['late', -1],
  ] as const)
    files.issue(name, 'zones', { days })
  writeFileSync(files.path('half.key'), files.read('own.key').slice(0, 90))
  after(() => files.remove())

  const told = (ca: string | null, cert: string | null, key: string | null): string[] => {
    const [caFile, certFile, keyFile] = [ca, cert, key].map((name) => name && files.path(name))
    return readUpstreamCertificates(
      { ca: caFile ?? null, cert: certFile ?? null, key: keyFile ?? null },
      new Date(),
    ).flatMap(({ use, fault, warning }) => {
      const what = fault ?? warning
      return what === null ? [] : [`${use} ${fault === null ? 'warning' : 'fault'}: ${what}`]
    })
  }

  test("nothing is told of what Envoy takes: a CA, and a zone's own certificate in place of one", () => {
    assert.deepEqual(told('zones.pem', 'own.pem', 'own.key'), [])
    assert.deepEqual(told('own.pem', null, null), [])
  })

  test('a folder that only Envoy sees, as in containers, is no fault', () => {
    assert.match(
      told('elsewhere/ca.pem', null, null).join(),
      /^ca warning: there is no folder .*elsewhere here: Envoy needs it/,
    )
    assert.match(told('gone.pem', null, null).join(), /^ca fault: /)
  })

  test('what Envoy can not take is a fault, and no part of a key is told', () => {
    assert.match(
      told(null, 'own.pem', 'next.key').join(),
      /^key fault: is not the key of the certificate in /,
    )
    assert.deepEqual(told('own.key', 'own.pem', 'half.key'), [
      'ca fault: expected a certificate in PEM, "-----BEGIN CERTIFICATE-----" and so on',
      "key fault: the key can't be read",
    ])
  })

  test('CAs that have all ended are a warning; one that has ended beside a good one is none', () => {
    assert.match(told('late.pem', null, null).join(), /^ca warning: "CN=late" expired on /)
    writeFileSync(files.path('both.pem'), files.read('late.pem') + files.read('zones.pem'))
    assert.deepEqual(told('both.pem', null, null), [])
    const ends = (ca: string): Date | null | undefined =>
      readUpstreamCertificates({ ca: files.path(ca), cert: null, key: null }, new Date())[0]?.expiresAt
    assert.deepEqual(ends('both.pem'), ends('zones.pem'))
  })
})
