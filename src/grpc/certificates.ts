import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { readText } from '../read-text.ts'

/** Paths of PEM files: `listen.tls`. */
export interface TlsFiles {
  /** The processor's certificate, followed by intermediate certificates. */
  readonly cert: string
  readonly key: string
  /** Certificates of the CAs that sign clients' certificates. */
  readonly clientCa: string
}

/** A fault of one of the files. */
export interface CertificateFault {
  readonly file: string
  /** Configuration key, such as `listen.tls.cert`. */
  readonly key: string
  readonly message: string
}

export class CertificateError extends Error {
  readonly faults: readonly CertificateFault[]

  constructor(faults: readonly CertificateFault[]) {
    super(faults.map(({ file, key, message }) => `${file}: ${key}: ${message}`).join('\n'))
    this.name = 'CertificateError'
    this.faults = faults
  }
}

/** The contents of files that fit together, as `tls.createSecureContext` takes them. */
export interface Certificates {
  readonly cert: string
  readonly key: string
  readonly ca: string
  /** When the first certificate of `cert` expires, and when the first valid one of `clientCa` does. */
  readonly expiresAt: { readonly cert: Date; readonly clientCa: Date }
  /** Certificates that have expired, expire soon, or are not valid yet. */
  readonly warnings: readonly CertificateFault[]
}

/** Certificates are usually renewed with a third of their time left, so this warning means a renewal was missed. */
const EXPIRES_SOON_MS = 7 * 24 * 3_600_000
const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g
/** A longer file is not a certificate; perhaps a log file was named by mistake. */
const FILE_OCTETS_MAX = 1_000_000

/**
 * Reads the three files and checks that they fit together.
 * @throws CertificateError with every fault
 */
export function readCertificates(files: TlsFiles, now: Date): Certificates {
  const faults: CertificateFault[] = []
  const attempt = <Value>(key: keyof TlsFiles, read: (text: string) => Value): Value | undefined => {
    try {
      return read(readText(files[key], FILE_OCTETS_MAX))
    } catch (error) {
      faults.push({ file: files[key], key: keyOf(key), message: (error as Error).message })
      return undefined
    }
  }
  const own = attempt('cert', certificatesOf)
  const key = attempt('key', privateKeyOf)
  const authorities = attempt('clientCa', authoritiesOf)
  const [leaf] = own ?? []
  if (leaf !== undefined && key !== undefined && !leaf.checkPrivateKey(key.object))
    faults.push({
      file: files.key,
      key: keyOf('key'),
      message: `is not the key of the certificate in ${files.cert}`,
    })
  if (faults.length > 0 || !leaf || !own || !key || !authorities) throw new CertificateError(faults)
  return {
    cert: pemOf(own),
    key: key.pem,
    ca: pemOf(authorities),
    expiresAt: {
      cert: leaf.validToDate,
      clientCa: (nextToEnd(authorities, now) as X509Certificate).validToDate,
    },
    warnings: [
      ...warningsOf('cert', files.cert, leaf, now),
      ...authorities.flatMap((authority) => warningsOf('clientCa', files.clientCa, authority, now)),
    ],
  }
}

/** Paths of the PEM files of `upstream.tls`, which Envoy reads itself; null: not set. */
export interface UpstreamTlsFiles {
  readonly ca: string | null
  readonly cert: string | null
  readonly key: string | null
}

/** The state of a file of `upstream.tls`. */
export interface UpstreamCertificate {
  readonly file: string
  readonly use: 'ca' | 'cert' | 'key'
  /** When the first certificate of `cert`, or the first valid one of `ca`, expires; null: the file is a key, or can't be read. */
  readonly expiresAt: Date | null
  /** Why Envoy can't use the file; null: it can. */
  readonly fault: string | null
  /** It has expired, expires soon, is not valid yet, or can't be seen by this process; null: no warning. */
  readonly warning: string | null
}

/** Reads the files of `upstream.tls` that this process may read; often only Envoy may read the key. Never throws. */
export function readUpstreamCertificates(
  { ca, cert, key }: UpstreamTlsFiles,
  now: Date,
): UpstreamCertificate[] {
  const found: UpstreamCertificate[] = []
  const read = <Value>(
    use: UpstreamCertificate['use'],
    file: string,
    look: (text: string) => Value,
    told: (value: Value) => Partial<UpstreamCertificate>,
  ): Value | undefined => {
    const nothing = { file, use, expiresAt: null, fault: null, warning: null }
    try {
      const value = look(readText(file, FILE_OCTETS_MAX))
      found.push({ ...nothing, ...told(value) })
      return value
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      // In containers often only Envoy has the folder, because of the keys in it.
      if (code === 'ENOENT' && !existsSync(dirname(file)))
        found.push({
          ...nothing,
          warning: `there is no folder ${dirname(file)} here: Envoy needs it where it runs`,
        })
      else if (use !== 'key' || code !== 'EACCES') found.push({ ...nothing, fault: message })
      return undefined
    }
  }
  const ended = (certificates: readonly X509Certificate[]): Partial<UpstreamCertificate> => {
    const next = nextToEnd(certificates, now)
    return next === undefined ? {} : { expiresAt: next.validToDate, warning: warningOf(next, now) }
  }
  // Certificates that are not of CAs are allowed here: Envoy trusts exactly these.
  if (ca !== null) read('ca', ca, certificatesOf, ended)
  const own =
    cert === null ? undefined : read('cert', cert, certificatesOf, ([leaf]) => ended(leaf ? [leaf] : []))
  const leaf = own?.[0]
  if (key !== null)
    read('key', key, privateKeyOf, ({ object }) =>
      leaf === undefined || leaf.checkPrivateKey(object)
        ? {}
        : { fault: `is not the key of the certificate in ${cert}` },
    )
  return found
}

/** True if the processor's certificate has expired, so that clients can't accept it. */
export function isOutOfDate({ expiresAt }: Certificates, now: Date): boolean {
  return expiresAt.cert <= now
}

function keyOf(name: keyof TlsFiles): string {
  return `listen.tls.${name}`
}

function certificatesOf(text: string): X509Certificate[] {
  const blocks = text.match(PEM_CERTIFICATE) ?? []
  if (blocks.length === 0)
    throw new Error('expected a certificate in PEM, "-----BEGIN CERTIFICATE-----" and so on')
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block)
    } catch {
      throw new Error(`certificate ${index + 1} of ${blocks.length} can't be read`)
    }
  })
}

function authoritiesOf(text: string): X509Certificate[] {
  const authorities = certificatesOf(text)
  const leaf = authorities.find(({ ca }) => !ca)
  if (leaf !== undefined)
    throw new Error(`expected only certificates of CAs, but "${oneLine(leaf.subject)}" is not one`)
  return authorities
}

function privateKeyOf(pem: string): { pem: string; object: KeyObject } {
  if (!pem.includes('PRIVATE KEY-----'))
    throw new Error('expected a private key in PEM, "-----BEGIN PRIVATE KEY-----" and so on')
  try {
    return { pem, object: createPrivateKey(pem) }
  } catch (error) {
    // The error text may contain parts of the key, so only its code is used.
    const { code } = error as NodeJS.ErrnoException
    throw new Error(
      code === 'ERR_MISSING_PASSPHRASE' || pem.includes('ENCRYPTED')
        ? 'the key is encrypted; expected one without a passphrase'
        : "the key can't be read",
    )
  }
}

function warningsOf(
  key: keyof TlsFiles,
  file: string,
  certificate: X509Certificate,
  now: Date,
): CertificateFault[] {
  const message = warningOf(certificate, now)
  return message === null ? [] : [{ file, key: keyOf(key), message }]
}

/**
 * The next certificate to expire. Many bundles contain expired ones, which do no harm while another is valid. If all have expired,
 * the one that did so last.
 */
function nextToEnd(certificates: readonly X509Certificate[], now: Date): X509Certificate | undefined {
  const byEnd = certificates.toSorted((a, b) => a.validToDate.getTime() - b.validToDate.getTime())
  return byEnd.find(({ validToDate }) => validToDate > now) ?? byEnd.at(-1)
}

function warningOf(
  { subject, validFromDate: from, validToDate: to }: X509Certificate,
  now: Date,
): string | null {
  const message =
    to <= now
      ? `expired on ${to.toISOString()}`
      : from > now
        ? `not valid before ${from.toISOString()}`
        : to.getTime() - now.getTime() < EXPIRES_SOON_MS
          ? `expires soon, on ${to.toISOString()}`
          : null
  return message && `"${oneLine(subject)}" ${message}`
}

function pemOf(certificates: readonly X509Certificate[]): string {
  return certificates.map(String).join('')
}

/** A subject such as `CN=a, O=b`, cut because its author may have made it long. */
export function oneLine(subject: string): string {
  return subject.replaceAll('\n', ', ').slice(0, 200)
}
