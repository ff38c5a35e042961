import type { DnsEvent } from '../dns/events.ts'
import type { Logger } from '../log.ts'

/** Logs the events of DNS: changes of state from `debug` up, single queries at `trace`. */
export function dnsEventLog(log: Logger): (event: Exclude<DnsEvent, { kind: 'bug' }>) => void {
  return (event) => {
    const { kind, ...fields } = event
    switch (kind) {
      case 'query':
        log.trace(fields, 'dns query')
        return
      case 'answer_changed':
        log.debug(
          { name: event.name, answer: event.answer, nameserver: event.nameserver },
          'a name has another answer',
        )
        return
      case 'resolv_conf_loaded':
        log.info(fields, 'nameservers in force')
        return
      case 'resolv_conf_kept':
        log.warn(fields, 'resolv.conf has a fault, its previous version stays in force')
        return
      case 'search_domain_kept':
        log.warn(
          fields,
          'the first search domain of resolv.conf has changed, the old one stays in force; to change it, send SIGHUP or set dns.search',
        )
        return
      case 'option_ignored':
        log.warn(fields, 'an option of resolv.conf has no effect here')
        return
      case 'addresses_capped':
        log.warn(fields, 'a name has more addresses than the limit, the rest are left out')
        return
      case 'nameserver_failing':
        log.warn(fields, 'nameserver fails, the processor asks others first')
        return
      case 'nameserver_recovered':
        log.info(fields, 'nameserver answers again')
        return
      case 'edns_unsupported':
        log.info(fields, 'nameserver does not support EDNS, the processor asks it without')
        return
    }
  }
}
