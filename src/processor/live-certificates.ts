import { faultText } from '../config/faults.ts'
import {
  CertificateError,
  type Certificates,
  isOutOfDate,
  readCertificates,
  type TlsFiles,
} from '../grpc/certificates.ts'
import { guarded, type OnBug } from '../guard.ts'
import type { Logger } from '../log.ts'
import { watchFileForChanges } from '../watch-file.ts'

const POLL_MS = 250

interface LiveCertificatesSeams {
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>
  readonly onBug: OnBug
  /** Wall clock. */
  readonly date: () => Date
}

/**
 * The certificates of `listen.tls` in force. When a file changes, the processor reads all three again. It uses them only if
 * they fit together and have not expired.
 */
export class LiveCertificates {
  readonly #files: TlsFiles
  readonly #seams: LiveCertificatesSeams
  #current: Certificates
  #onChange: (certificates: Certificates) => void = () => undefined

  /** @throws CertificateError */
  constructor(files: TlsFiles, seams: LiveCertificatesSeams) {
    this.#files = files
    this.#seams = seams
    this.#current = readCertificates(files, seams.date())
    this.#warn(this.#current)
  }

  get current(): Certificates {
    return this.#current
  }

  /** @returns ends the watch */
  watch(onChange: (certificates: Certificates) => void): () => void {
    this.#onChange = onChange
    // Reads files that change together only once.
    let timer: NodeJS.Timeout | undefined
    const { onBug } = this.#seams
    const read = guarded(onBug, () => {
      timer = undefined
      this.reload('changed')
    })
    const changed = (): void => {
      timer ??= setTimeout(read, POLL_MS).unref()
    }
    const stops = Object.values(this.#files).map((file) =>
      watchFileForChanges(file, { pollMs: POLL_MS, settleMs: POLL_MS, onBug }, changed),
    )
    // The files may have changed between the first reading and the start of the watch.
    changed()
    return () => {
      clearTimeout(timer)
      for (const stop of stops) stop()
    }
  }

  reload(why: 'changed' | 'SIGHUP'): void {
    const { log, date } = this.#seams
    try {
      const next = readCertificates(this.#files, date())
      if (next.cert === this.#current.cert && next.key === this.#current.key && next.ca === this.#current.ca)
        return
      if (isOutOfDate(next, date()))
        throw new CertificateError(next.warnings.filter(({ key }) => key === 'listen.tls.cert'))
      this.#onChange(next)
      this.#current = next
      const { cert, clientCa } = next.expiresAt
      log.info(
        { why, files: this.#files, certUntil: cert, clientCaUntil: clientCa },
        'new certificates are in force',
      )
      this.#warn(next)
    } catch (error) {
      const faults =
        error instanceof CertificateError ? error.faults.map(faultText) : [(error as Error).message]
      for (const fault of faults)
        log.error({ fault, why }, 'the certificates have a fault, the previous ones stay in force')
    }
  }

  #warn({ warnings }: Certificates): void {
    for (const warning of warnings)
      this.#seams.log.warn({ certificate: faultText(warning) }, 'a certificate needs attention')
  }
}
