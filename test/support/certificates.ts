import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface IssueOptions {
  /** As openssl's `subjectAltName`: `DNS:processor.zonegate`. */
  readonly san?: string
  readonly usage?: 'serverAuth' | 'clientAuth'
  /** Days from now; below 0: it has expired. */
  readonly days?: number
}

export interface TestCertificate {
  readonly cert: string
  readonly key: string
}

/** CAs and certificates in a scratch folder, made by the `openssl` command: Node can read certificates, not sign them. */
export class CertificateFolder {
  readonly folder = mkdtempSync(join(tmpdir(), 'zonegate-certificates-'))
  #serial = 0

  path(name: string): string {
    return join(this.folder, name)
  }

  read(name: string): string {
    return readFileSync(this.path(name), 'utf8')
  }

  /** `NAME.pem` and `NAME.key` of a CA. */
  authority(name: string): void {
    this.#openssl([
      ...[
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '30',
      ],
      ...['-subj', `/CN=${name}`, '-keyout', this.path(`${name}.key`), '-out', this.path(`${name}.pem`)],
    ])
  }

  /** `NAME.pem` and `NAME.key`, signed by `AUTHORITY`. */
  issue(name: string, authority: string, options: IssueOptions = {}): TestCertificate {
    const { san = `DNS:${name}`, usage = 'clientAuth', days = 30 } = options
    const [cert, key, request, extensions] = ['pem', 'key', 'csr', 'ext'].map((kind) =>
      this.path(`${name}.${kind}`),
    ) as [string, string, string, string]
    this.#openssl([
      ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-subj', `/CN=${name}`, '-keyout', key, '-out', request],
    ])
    writeFileSync(extensions, `subjectAltName=${san}\nextendedKeyUsage=${usage}\n`)
    this.#serial += 1
    this.#openssl([
      ...['x509', '-req', '-in', request, '-days', String(days), '-extfile', extensions, '-out', cert],
      ...['-CA', this.path(`${authority}.pem`), '-CAkey', this.path(`${authority}.key`)],
      ...['-set_serial', String(Date.now() * 1000 + this.#serial)],
    ])
    return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') }
  }

  /** Puts a copy of a file in another's place, as renewals do. */
  rename(from: string, to: string): void {
    this.renameTo(from, this.path(to))
  }

  /** As `rename`, to a place outside. */
  renameTo(from: string, path: string): void {
    copyFileSync(this.path(from), `${path}.new`)
    renameSync(`${path}.new`, path)
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }

  #openssl(args: readonly string[]): void {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'], timeout: 60_000 })
  }
}
