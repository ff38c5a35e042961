/**
 * The nameserver and the receiver of a scan, in a process of their own: what they cost a scanned gateway's neighbour is
 * not what the scan measures. Arguments: the receiver's address and port, TTL of the known zones, `wildcard` or `unknown`.
 * Tells its parent the nameserver's address, and how often zones were asked for whenever the parent asks.
 */
import { a, type Query, soa, startNameserver } from '../support/nameserver.ts'
import { startReceiver } from '../support/receiver.ts'

export const KNOWN_ID = /^known\d+$/

export type FarSideMessage = { readonly nameserver: string } | Queries

export interface Queries {
  readonly known: number
  readonly scanned: number
}

const NEGATIVE_TTL_SECONDS = 30
const WILDCARD_TTL_SECONDS = 60

async function serve([host = '', port = '', ttlSeconds = '', kind = '']: readonly string[]): Promise<void> {
  let [known, scanned] = [0, 0]
  const receiver = await startReceiver(host, Number(port), (request, response) => {
    request.resume()
    response.end('ok')
  })
  const nameserver = await startNameserver((query) => {
    // The record of what was asked is for tests of a few queries.
    ;(nameserver.queries as Query[]).length = 0
    const isKnown = KNOWN_ID.test(/^zone(\w+)-/.exec(query.name)?.[1] ?? '')
    if (isKnown) known += 1
    else scanned += 1
    if (isKnown) query.reply({ answers: [a(query.name, host, Number(ttlSeconds))] })
    else if (kind === 'wildcard') query.reply({ answers: [a(query.name, host, WILDCARD_TTL_SECONDS)] })
    else query.reply({ rcode: 3, authorities: [soa('game.test', NEGATIVE_TTL_SECONDS)] })
  })
  const tell = (message: FarSideMessage): void => void process.send?.(message)
  process.on('message', () => tell({ known, scanned }))
  // Ended by the parent, or with it; Ctrl-C is the parent's to handle.
  process.on('SIGINT', () => undefined)
  process.on('disconnect', () => {
    void Promise.all([nameserver.stop(), receiver.close()]).then(() => process.exit())
  })
  tell({ nameserver: nameserver.address })
}

if (process.send !== undefined) await serve(process.argv.slice(2))
