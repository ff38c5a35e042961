import type { DnsEvent } from '../dns/events.ts'
import type { Logger } from '../log.ts'

/** Puts what DNS tells into the log: changes of state, not each query. */
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
        log.warn(fields, 'resolv.conf not taken, what held before still holds')
        return
      case 'search_domain_kept':
        log.warn(
          fields,
          'resolv.conf has another search domain in front, the one in force stays; SIGHUP or dns.search takes the other',
        )
        return
      case 'option_ignored':
        log.warn(fields, 'an option of resolv.conf has no effect here')
        return
      case 'addresses_capped':
        log.warn(fields, 'more addresses than are kept of one name')
        return
      case 'nameserver_failing':
        log.warn(fields, 'nameserver fails, others are asked first')
        return
      case 'nameserver_recovered':
        log.info(fields, 'nameserver answers again')
        return
      case 'edns_unsupported':
        log.info(fields, 'nameserver knows no EDNS, asked without')
        return
    }
  }
}
