import { get } from 'node:http'
import { loadConfig } from '../config/load.ts'
import { parseHostPort } from '../config/schema.ts'

const TIMEOUT_MS = 2000

/** Asks the running processor's `/readyz`. Exit 0: ready; exit 1: not, with the reason on standard error. */
export async function healthcheck(configPath: string | undefined): Promise<void> {
  const { config } = loadConfig(configPath)
  const { host, port } = parseHostPort(config.listen.http) ?? { host: '127.0.0.1', port: 9003 }
  const { status, body } = await fetchText(wildcardToLoopback(host), port, '/readyz')
  if (status !== 200) throw new Error(`not ready: ${body.trim()}`)
}

/** A server that listens everywhere is asked on loopback. */
function wildcardToLoopback(host: string): string {
  return host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
}

function fetchText(host: string, port: number, path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const request = get({ host, port, path, timeout: TIMEOUT_MS }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (text: string) => {
        body += text
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }))
    })
    request.on('timeout', () => request.destroy(new Error('no answer')))
    request.on('error', (error) =>
      reject(new Error(`not ready: http://${host}:${port}${path}: ${error.message}`)),
    )
  })
}
