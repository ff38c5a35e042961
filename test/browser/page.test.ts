import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { rulesOf } from '../../src/config/rules.ts'
import { configSchema } from '../../src/config/schema.ts'
import { SKIP, textOf, useDesk } from './browser.ts'

const RULES = rulesOf(
  configSchema.parse({
    rules: [
      {
        name: 'pay',
        match: { paths: ['/pay/*'], hosts: ['pay.example'] },
        methods: ['PUT', 'GET'],
        id: { query: 'server_id' },
      },
      {
        name: 'chat',
        match: { paths: ['/chat/*'] },
        id: [{ header: 'server' }, { json: '/attach/server' }],
      },
    ],
  }),
)

describe('the page', { skip: SKIP }, () => {
  const { serve, openLive, expectNetworkErrors } = useDesk()

  it('shows zones, nameservers, Envoys and refusals as the processor tells them', async () => {
    const page = await openLive(await serve({ zones: 30, trouble: true }))
    const row = page.getByRole('row', { name: /zone7-default/ })
    assert.match(
      await textOf(row),
      /^7\s+default\s+zone7-default\.game\.example\s+hot\s+10\.40\.6\.11\s+(?:TTL\s+)?\d+ s\s+[\d.]+\s+4$/,
    )
    assert.match(await textOf(page.getByRole('row', { name: /zone5-default/ })), /hot\s+stale/)
    assert.match(await textOf(page.getByRole('row', { name: /zone18-mail/ })), /NXDOMAIN/)
    const nameservers = page.getByRole('table', { name: 'Nameservers' })
    assert.match(await textOf(nameservers), /10\.0\.0\.3:53\s+12 ms\s+41\s+failing\s+4 failures in a row/)
    const envoys = page.getByRole('table', { name: 'Envoys' })
    assert.match(await textOf(envoys), /edge-1\s+all\s+0\s+Envoy 1\.40\.0\. Connected for 2 h/)
    assert.match(await textOf(envoys), /edge-2\s+not all\s+2[\s\S]+Last NACK: Error adding\/updating cluster/)
    const refusals = page.getByRole('table', { name: 'Refusals' })
    assert.match(await textOf(refusals), /name_not_found\s+0\s+1,841\s+A nameserver says/)
  })

  it("has all addresses of a zone in a tooltip, with SRV records' targets, priorities and weights", async () => {
    const fixture = await serve({ zones: 2 })
    const [srv, plain] = fixture.zones
    assert.ok(srv && plain)
    const endpoint = (address: string, port: number, priority: number) => ({
      address,
      port,
      priority,
      weight: 1,
      srv: { target: 'host1.game.example', priority: 10 * priority, weight: 5 },
    })
    Object.assign(srv, {
      addresses: ['10.0.0.1:7001', '10.0.0.2:7002'],
      endpoints: [endpoint('10.0.0.1', 7001, 0), endpoint('10.0.0.2', 7002, 1)],
    })
    plain.addresses = ['10.0.1.1', '10.0.1.2']
    const page = await openLive(fixture)
    const tooltip = (name: RegExp): Promise<string | null> =>
      page.getByRole('row', { name }).locator('.c-addresses span').getAttribute('title')
    assert.equal(
      await tooltip(/zone1-/),
      '10.0.0.1:7001  host1.game.example, priority 0, weight 5\n10.0.0.2:7002  host1.game.example, priority 10, weight 5',
    )
    assert.equal(await tooltip(/zone2-/), '10.0.1.1\n10.0.1.2')
    assert.match(
      await textOf(page.getByRole('row', { name: /zone1-/ })),
      /10\.0\.0\.1:7001, 10\.0\.0\.2:7002/,
    )
  })

  it('marks an Envoy of a version that this release is not tested with', async () => {
    const page = await openLive(await serve({ zones: 1, envoys: 3 }))
    const envoys = page.getByRole('table', { name: 'Envoys' })
    assert.match(
      await textOf(envoys),
      /edge-3\s+all\s+0\s+Envoy 1\.39\.2; this release is tested with 1\.40\.0\. Connected/,
    )
    assert.equal(await envoys.locator('[data-tone=warn]').count(), 1)
  })

  it('tells pins by command: where, who, until when and because of what, as text', async () => {
    const fixture = await serve({ zones: 1 })
    const pin = { zone: '12', addresses: ['10.0.0.5'], who: 'ada', because: '<b>disk</b> full' }
    const times = { since: '2026-11-28T03:00:00.000Z', until: '2026-11-28T05:00:00.000Z' }
    fixture.pins = {
      pins: Array.from({ length: 7 }, () => ({ ...pin, ...times })),
      fault: "run/pins.json: can't be written",
    }
    const page = await openLive(fixture)
    const notices = await textOf(page.locator('#notices'))
    assert.match(notices, /ada pinned zone 12 to 10\.0\.0\.5 until .*2026.*: <b>disk<\/b> full/)
    assert.match(notices, /2 more zones are pinned by command/)
    assert.match(notices, /A restart may lose pins by command: run\/pins\.json: can't be written/)
  })

  it('keeps up: rates, new zones, zones that are gone, refusals', async () => {
    const fixture = await serve({ zones: 5 })
    const page = await openLive(fixture)
    const [first] = fixture.zones
    assert.ok(first)
    Object.assign(first, { requestsPerSecond: 4321, state: 'stale', expiresAt: Date.now() - 9000 })
    fixture.zones.splice(1, 1)
    fixture.refused['no_address'] = 17
    await page.getByRole('row', { name: /zone1-default.*stale.*\d+ s over.*4,321/s }).waitFor()
    await page.getByRole('row', { name: /zone2-/ }).waitFor({ state: 'detached' })
    await page.getByRole('row', { name: /no_address 17 17/ }).waitFor()
    assert.equal(await textOf(page.locator('#zones-count')), '4 zones')
  })

  it('says what is wrong with the processor, and its configuration', async () => {
    const fixture = await serve({ zones: 1 })
    const page = await openLive(fixture)
    fixture.faults = ['zonegate.yaml:3:5: dns.budgetMs: expected a number']
    fixture.unready = { processor: 'stopping' }
    fixture.policy.reasons = ['envoy/routes.yaml:40:9: route.host_rewrite_literal: no']
    fixture.policy.faults = ['envoy/routes.yaml:41:9: timeout: expected a duration']
    await page
      .getByText('No zone is learned, so every request asks the processor: envoy/routes.yaml:40:9')
      .waitFor()
    await page.getByText("Envoy's files have a fault").waitFor()
    await page.getByText('zonegate.yaml:3:5: dns.budgetMs: expected a number').waitFor()
    await page.getByText('Not ready: processor: stopping').waitFor()
  })

  it('says that no processor served, and what became of requests; not for the length of an upgrade', async () => {
    const fixture = await serve({ zones: 1 })
    const page = await openLive(fixture)
    fixture.awayMs = 14_000
    await page
      .getByText(/No processor ran for 14 s until .+ If Envoy ran, cold requests got 502, or with/)
      .waitFor()
    fixture.awayMs = 3000
    await page.getByText('No processor ran').waitFor({ state: 'detached' })
  })

  it('has words for having nothing to show', async () => {
    const page = await openLive(await serve({ zones: 0, envoys: 0 }))
    for (const text of ['No requests yet', 'No Envoy is connected', 'refused no request']) {
      assert.ok(await page.getByText(text).isVisible(), text)
    }
    assert.ok(await page.locator('#zones table').isHidden())
  })

  it('searches, and says how many it found', async () => {
    const page = await openLive(await serve({ zones: 300, trouble: true }))
    await page.keyboard.press('/')
    await page.keyboard.type('zone12-')
    assert.equal(await textOf(page.locator('#zones-count')), '1 of 300 zones')
    await page.getByRole('row', { name: /zone12-/ }).waitFor()
    await page.keyboard.press('Escape')
    assert.equal(await textOf(page.locator('#zones-count')), '300 zones')
    await page.getByLabel('Show zones').selectOption('stale')
    assert.equal(await textOf(page.locator('#zones-count')), '4 of 300 zones')
    await page.getByLabel('Search zones').fill('nothing has this')
    await page.getByRole('button', { name: 'Show all zones' }).click()
    assert.equal(await textOf(page.locator('#zones-count')), '300 zones')
  })

  it('sorts by each column, and back', async () => {
    const page = await openLive(await serve({ zones: 300, trouble: true }))
    const heads = page.locator('#columns th')
    const numbers = async (column: string): Promise<number[]> => {
      const texts = await page.locator(`#rows .c-${column}`).allInnerTexts()
      return texts.slice(0, 10).map((text) => Number(/[\d.,]+/.exec(text)?.[0].replace(',', '')))
    }
    assert.equal(await heads.nth(0).getAttribute('aria-sort'), 'ascending')
    await page.getByRole('button', { name: 'Req/s' }).click()
    assert.equal(await heads.nth(0).getAttribute('aria-sort'), null)
    assert.equal(await page.locator('th[data-key=rate]').getAttribute('aria-sort'), 'descending')
    const rates = await numbers('rate')
    assert.deepEqual(
      rates,
      [...rates].sort((a, b) => b - a),
    )
    assert.ok((rates[0] ?? 0) > 10)
    await page.getByRole('button', { name: 'Id' }).click()
    await page.getByRole('button', { name: 'Id' }).click()
    assert.deepEqual((await numbers('id')).slice(0, 3), [300, 299, 298])
    for (const head of ['Service', 'Name', 'State', 'Addresses', 'TTL left', 'Errors']) {
      await page.getByRole('button', { name: head }).click()
      assert.equal(await page.locator('th[aria-sort]').count(), 1)
    }
  })

  it('explains a request step by step: the cause and the way out', async () => {
    const fixture = await serve({ zones: 20 })
    const page = await openLive(fixture)
    await page.getByLabel('Id', { exact: true }).fill('nosuch')
    await page.getByLabel('Path').fill('/mail?x=1')
    await page.getByRole('button', { name: 'Explain', exact: true }).click()
    await page.getByRole('heading', { name: 'Refused with 502 name_not_found' }).waitFor()
    const box = await textOf(page.locator('#explained'))
    assert.match(box, /Why\. A nameserver says that the zone's name does not exist/)
    assert.match(box, /What to do\. Add the name to DNS/)
    assert.match(box, /Name\s*:?\s*zonenosuch-mail\.game\.example/)
    assert.deepEqual(
      fixture.asked.map(({ method, path, ids }) => ({ method, path, ids })),
      [{ method: 'POST', path: '/mail?x=1', ids: ['nosuch'] }],
    )
    await page.getByRole('button', { name: 'Close' }).click()
    assert.equal(await textOf(page.locator('#explained')), '')
  })

  it('explains a listed zone at a press', async () => {
    const fixture = await serve({ zones: 20 })
    const page = await openLive(fixture)
    await page
      .getByRole('row', { name: /zone4-mail/ })
      .getByRole('button')
      .click()
    await page.getByRole('heading', { name: 'Forwarded to 10.40.3.11:8101' }).waitFor()
    assert.deepEqual(fixture.asked, [{ zone: { service: 'mail', id: '4' } }])
    assert.match(await textOf(page.locator('#explained')), /10\.0\.0\.3:53 asked for A over udp: timeout/)
    assert.match(await textOf(page.locator('#explained')), /edge-1: hot/)
    assert.equal(await page.getByLabel('Path').inputValue(), '/mail')
  })

  it('explains a zone of a rule with a path, a host and a method of its own', async () => {
    const fixture = await serve({ zones: 1, rules: RULES })
    Object.assign(fixture.zones[0] ?? {}, { service: 'pay', name: 'zone1-pay.game.example' })
    const page = await openLive(fixture)
    await page
      .getByRole('row', { name: /zone1-pay/ })
      .getByRole('button')
      .click()
    await page.getByRole('heading', { name: /^Forwarded to/ }).waitFor()
    const box = await textOf(page.locator('#explained'))
    assert.match(box, /PUT pay\.example\/pay\/, id 1 · answered/)
    assert.match(box, /Rule\s*:?\s*pay fits: path \/pay\/\*, host pay\.example/)
    assert.match(box, /query server_id: "1" matches idPattern/)
    assert.equal(await page.getByLabel('Method').inputValue(), 'PUT')
  })

  it('explains a whole request: by keyboard, with host, headers and body', async () => {
    const fixture = await serve({ zones: 1, rules: RULES })
    const page = await openLive(fixture)
    await page.getByLabel('Path').fill('/chat/x')
    const summary = page.getByText('Host, headers, body, or a curl command')
    await summary.focus()
    await page.keyboard.press('Enter')
    for (const text of [
      'chat.example',
      'content-type: application/json\nx: y',
      '{"attach": {"server": 7}}',
    ]) {
      await page.keyboard.press('Tab')
      await page.keyboard.insertText(text)
    }
    await page.getByRole('button', { name: 'Explain', exact: true }).click()
    await page.getByRole('heading', { name: 'Refused with 502 name_not_found' }).waitFor()
    const box = await textOf(page.locator('#explained'))
    assert.match(box, /POST chat\.example\/chat\/x, a body of 25 octets · answered/)
    assert.match(box, /Source\s*:?\s*header server: not there/)
    assert.match(box, /json \/attach\/server: "7" matches idPattern/)
    assert.deepEqual(fixture.asked, [
      {
        method: 'POST',
        path: '/chat/x',
        host: 'chat.example',
        headers: ['content-type: application/json', 'x: y'],
        ids: [],
        body: Buffer.from('{"attach": {"server": 7}}'),
      },
    ])
  })

  it('explains a curl command, and leaves to it what it says', async () => {
    expectNetworkErrors()
    const fixture = await serve({ zones: 1, rules: RULES })
    const page = await openLive(fixture)
    await page.getByText('Host, headers, body, or a curl command').click()
    const curl = page.getByLabel('A curl command')
    await curl.fill("curl -X PUT 'https://pay.example/pay/x?server_id=1' \\\n -H 'a: b'")
    assert.ok(await page.getByLabel('Path').isDisabled())
    assert.ok(await page.getByLabel('Id', { exact: true }).isEnabled())
    await page.getByRole('button', { name: 'Explain', exact: true }).click()
    await page.getByText('PUT pay.example/pay/x?server_id=1 · answered').waitFor()
    await curl.fill('curl "https://pay.example/$ID"')
    await page.getByRole('button', { name: 'Explain', exact: true }).click()
    await page.getByRole('alert').filter({ hasText: 'curl: $ID is a variable: write its value' }).waitFor()
    await curl.fill('')
    assert.ok(await page.getByLabel('Path').isEnabled())
  })

  it('says what each rule wants where none fits', async () => {
    const page = await openLive(await serve({ zones: 1, rules: RULES }))
    await page.getByRole('button', { name: 'Explain', exact: true }).click()
    await page.getByRole('heading', { name: 'Refused with 404 no_rule' }).waitFor()
    const box = await textOf(page.locator('#explained'))
    assert.match(box, /pay wants path \/pay\/\* \(not \/\) and host pay\.example \(there is none\)/)
    assert.match(box, /chat wants path \/chat\/\*/)
  })

  it('has the rules by name, with their requests and refusals', async () => {
    const fixture = await serve({ zones: 1, rules: RULES })
    const [pay] = fixture.rules
    assert.ok(pay)
    fixture.rules[0] = { ...pay, refused: { id_missing: 3, name_not_found: 17 } }
    const page = await openLive(fixture)
    const rules = page.getByRole('table', { name: 'Rules' })
    assert.match(
      await textOf(rules),
      /pay\s+812\s+20\s+50,324\s+17 name_not_found, 3 id_missing\s+chat\s+812\s+0\s+50,324/,
    )
    fixture.rules[0] = { ...pay, requestsPerSecond: 1.5 }
    await page.getByRole('row', { name: /^pay 1\.5 0 50,324$/ }).waitFor()
  })

  it('takes what callers send for text', async () => {
    const fixture = await serve({ zones: 1 })
    const page = await openLive(fixture)
    const markup = '<img src=x onerror=alert(1)>'
    await page.getByLabel('Id', { exact: true }).fill(markup)
    await page.getByLabel('Id', { exact: true }).press('Enter')
    await page.getByRole('heading', { name: 'Refused with 403 server_header_invalid' }).waitFor()
    assert.ok((await textOf(page.locator('#explained'))).includes(markup))
    assert.equal(await page.locator('img').count(), 0)
  })
})
