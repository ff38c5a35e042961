import type { Fence } from './fence.ts'

const SOURCE = 'src/envoy-files/envoy-source.ts'
const SCRIPT = 'envoy/id_in_body.lua'
const ODD = 'test/e2e/odd-requests.test.ts'
const LOGGED = 'test/e2e/logged-keys.test.ts'

/** What stops callers that say two ids, one to the gateway and one to the zone; and what keeps secrets beside an id out of the logs. */
export const IDS_FENCES: readonly Fence[] = [
  {
    attack: 'two ids in the query of a hot zone',
    file: SOURCE,
    text: "matching(':path', `(?i)[^?]*",
    without: "matching(':path', `(?i)never[^?]*",
    test: ODD,
    titles: /\bquery\b/,
  },
  {
    attack: 'a key that is read by the script of other rules: another zone',
    file: 'src/envoy-files/zone-of-key.ts',
    text: 'slice(0, HASH_LENGTH)',
    without: 'slice(0, 0)',
    test: 'src/envoy-files/zone-of-key.test.ts',
    titles: /a script has a name of its own/,
  },
  {
    attack: 'an id that the script of shared routes would read with the letters behind it: another zone',
    file: 'src/envoy-files/zone-of-key.ts',
    text: '&& !/^[A-Za-z0-9-]/.test(after)',
    without: '',
    test: 'src/envoy-files/zone-of-key.test.ts',
    titles: /a letter behind it/,
  },
  {
    attack: 'a path of a hot zone that means another',
    file: SOURCE,
    text: "unclear: [not(matching(':path',",
    without: "unclear: [not(matching('never',",
    test: ODD,
    titles: /\bpath\b/,
  },
  {
    attack: 'two cookies of a hot zone',
    file: SOURCE,
    text: "twice(source.name, ';,'",
    without: "twice('never', ';,'",
    test: ODD,
    titles: /\bcookie\b/,
  },
  {
    attack: 'two ids in the form of a hot zone',
    file: SCRIPT,
    text: 'if id or field ~= name then return end',
    without: 'if field ~= name then return end',
    test: ODD,
    titles: /\bform\b/,
  },
  {
    attack: 'two ids in the JSON of a hot zone',
    file: SCRIPT,
    text: 'if first and not text:find(quoted, last, true) then return last + 1 end',
    without: 'if first then return last + 1 end',
    test: ODD,
    titles: /\bjson\b/,
  },
  {
    attack: 'two ids, to the processor',
    file: 'src/routing/id-sources.ts',
    text: 'if (alike.length > 1) return',
    without: 'if (alike.length > 99) return',
    test: ODD,
    titles: /\b(?:query|cookie|form)\b/,
  },
  {
    attack: 'a body that is too long to be looked into',
    file: 'src/envoy-files/body-filters.ts',
    text: 'buffer: { max_request_bytes: rule.bodyMaxBytes },',
    without: 'buffer: { max_request_bytes: 1048576 },',
    test: 'test/e2e/rules.test.ts',
    titles: /a body beyond bodyMaxBytes is 413/,
  },
  {
    attack: 'a query in the log',
    file: SOURCE,
    text: '%PATH(NQ:PATH)%',
    without: '%REQ(:PATH)%',
    test: LOGGED,
    titles: /an id in the (?:path|\$)/,
  },
  {
    attack: 'cookies in the log',
    file: 'src/envoy-files/render.ts',
    text: 'if (generated.hasSecretKeys)',
    without: 'if (generated.hasSecretKeys && false)',
    test: LOGGED,
    titles: /an id in the (?:cookie|\$)/,
  },
]
