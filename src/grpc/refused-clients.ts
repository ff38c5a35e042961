/** Why `listen.grpc` refused a client. */
export type Refusal =
  | 'no client certificate'
  | 'its certificate is signed by no CA of listen.tls.clientCa'
  | 'its certificate has expired'
  | 'its certificate is not valid yet'
  | 'its certificate is not for clients'
  | 'its certificate is not acceptable'
  | 'it does not accept the certificate in listen.tls.cert'
  | 'it does not speak TLS'
  | 'it does not speak TLS 1.2 or newer'
  | 'it does not speak HTTP/2'
  | 'it was silent'
  | 'it left during the handshake'
  | 'the handshake failed'

/** By OpenSSL's verdict on the client's certificate (X509_V_ERR_*, in Node's spelling). */
const BY_VERIFICATION: Readonly<Record<string, Refusal>> = {
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet',
  INVALID_PURPOSE: 'its certificate is not for clients',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is signed by no CA of listen.tls.clientCa',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is signed by no CA of listen.tls.clientCa',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is signed by no CA of listen.tls.clientCa',
  UNABLE_TO_GET_ISSUER_CERT: 'its certificate is signed by no CA of listen.tls.clientCa',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate is signed by no CA of listen.tls.clientCa',
  CERT_SIGNATURE_FAILURE: 'its certificate is signed by no CA of listen.tls.clientCa',
}

/** @param code `authorizationError` of a TLS socket */
export function refusalOfCertificate(code: string, hasCertificate: boolean): Refusal {
  if (!hasCertificate) return 'no client certificate'
  return BY_VERIFICATION[code] ?? 'its certificate is not acceptable'
}

/** @param code of the error that ended the handshake */
export function refusalOfHandshake(code: string): Refusal {
  if (code === 'ECONNRESET' || code === 'EPIPE') return 'it left during the handshake'
  if (code === 'ERR_TLS_HANDSHAKE_TIMEOUT') return 'it was silent'
  if (code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE') return 'no client certificate'
  if (code === 'ERR_SSL_NO_APPLICATION_PROTOCOL') return 'it does not speak HTTP/2'
  if (/UNSUPPORTED_PROTOCOL|VERSION_TOO_LOW/.test(code)) return 'it does not speak TLS 1.2 or newer'
  if (/HTTP_REQUEST|WRONG_VERSION_NUMBER|PACKET_LENGTH|RECORD|HTTPS_PROXY/.test(code))
    return 'it does not speak TLS'
  if (/ALERT.*(?:UNKNOWN_CA|CERTIFICATE|DECRYPT|BAD_CERT)/.test(code))
    return 'it does not accept the certificate in listen.tls.cert'
  return 'the handshake failed'
}
