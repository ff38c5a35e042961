import type { DnsEvent } from '../dns/events.ts'
import type { Logger } from '../log.ts'

type Logged = Exclude<DnsEvent, { kind: 'bug' }>

/** Changes of state have the level `debug` or more, single queries `trace`. */
const LOGGED: Readonly<Record<Logged['kind'], readonly ['trace' | 'debug' | 'info' | 'warn', text: string]>> =
  {
    query: ['trace', 'dns query'],
    answer_changed: ['debug', 'a name has another answer'],
    resolv_conf_loaded: ['info', 'nameservers in force'],
    resolv_conf_kept: ['warn', 'resolv.conf has a fault, its previous version stays in force'],
    search_domain_kept: [
      'warn',
      'the first search domain of resolv.conf has changed, the old one stays in force; to change it, send SIGHUP or set dns.search',
    ],
    option_ignored: ['warn', 'an option of resolv.conf has no effect here'],
    addresses_capped: ['warn', 'a name has more addresses than the limit, the rest are left out'],
    nameserver_failing: ['warn', 'nameserver fails, the processor asks others first'],
    nameserver_recovered: ['info', 'nameserver answers again'],
    edns_unsupported: ['info', 'nameserver does not support EDNS, the processor asks it without'],
  }

export function dnsEventLog(log: Logger): (event: Logged) => void {
  return ({ kind, ...fields }) => {
    const [level, text] = LOGGED[kind]
    // An earlier line has the previous answer.
    log[level]('before' in fields ? { ...fields, before: undefined } : fields, text)
  }
}
