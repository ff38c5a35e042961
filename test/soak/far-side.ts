/**
 * The nameserver and the receiver of a scan, in their own process, so that their work does not delay the load generator.
 * Arguments: the receiver's address and port, the TTL of the known zones, `wildcard` or `unknown`. Sends the nameserver's
 * address to its parent, and then, whenever the parent asks, how many queries came.
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
    // Tests read this record. Here it would only grow.
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
  // The parent handles Ctrl-C, and ends this process.
  process.on('SIGINT', () => undefined)
  process.on('disconnect', () => {
    void Promise.all([nameserver.stop(), receiver.close()]).then(() => process.exit())
  })
  tell({ nameserver: nameserver.address })
}

if (process.send !== undefined) await serve(process.argv.slice(2))
