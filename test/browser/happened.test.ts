import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { HistoryEvent } from '../../src/history/event.ts'
import type { ToldEvent } from '../../src/history/read-history.ts'
import { type Tone, textOf, toneOf } from '../../src/history/text.ts'
import { SKIP, useDesk } from './browser.ts'

const told = (seq: number, at: number, event: HistoryEvent): ToldEvent => ({
  ...event,
  seq,
  at,
  text: textOf(event),
  tone: toneOf(event) satisfies Tone,
})
const failing: HistoryEvent = { kind: 'nameserver_failing', nameserver: '<b>10.0.0.3:53', outcome: 'timeout' }
const learned = (id: number): HistoryEvent => ({
  kind: 'learned',
  zone: `mail/${id}`,
  name: `zone${id}-mail.game.example`,
  why: 'learned',
})

describe('the last hour on the page', { skip: SKIP }, () => {
  const { serve, openLive } = useDesk()

  it('has the newest events first, as text, and goes on with those that come', async () => {
    const fixture = await serve({ zones: 3 })
    fixture.happened.push(told(1, Date.now() - 60_000, failing), told(2, Date.now() - 50_000, learned(12)))
    const page = await openLive(fixture)
    const list = page.getByRole('list', { name: 'Events' })
    const items = list.getByRole('listitem')
    await items.nth(1).waitFor()
    const texts = async (): Promise<string[]> => items.allTextContents()
    assert.match((await texts())[0] ?? '', /^\d\d:\d\d:\d\dmail\/12 learned/)
    assert.match((await texts())[1] ?? '', /nameserver <b>10\.0\.0\.3:53 fails \(timeout\)/)
    fixture.happened.push(told(3, Date.now(), { kind: 'nameserver_recovered', nameserver: '10.0.0.3:53' }))
    await items.nth(2).waitFor()
    assert.match((await texts())[0] ?? '', /answers again$/)
    await page.getByText('3 events, 1 of them bad').waitFor()
    assert.equal(await page.locator('#happened-strip rect[data-tone=bad]').count(), 1)
  })

  it('is scrolled and filtered by keyboard', async () => {
    const fixture = await serve({ zones: 3 })
    fixture.happened.push(told(1, Date.now() - 60_000, failing))
    for (let id = 1; id <= 100; id += 1) fixture.happened.push(told(id + 1, Date.now() - 1000, learned(id)))
    const page = await openLive(fixture)
    const list = page.getByRole('list', { name: 'Events' })
    await list.getByRole('listitem').nth(100).waitFor({ state: 'attached' })
    await list.focus()
    await page.keyboard.press('End')
    await page.waitForFunction("document.querySelector('#happened-list').scrollTop > 0")
    await page.getByLabel('Show events of').selectOption('gateway')
    await page.getByText('1 event, 1 of them bad').waitFor()
    assert.equal(await list.getByRole('listitem').count(), 1)
  })

  it('keeps the newest of very many, and says where the others are', async () => {
    const fixture = await serve({ zones: 2000 })
    for (let id = 1; id <= 5000; id += 1) fixture.happened.push(told(id, Date.now() - 1000, learned(id)))
    const page = await openLive(fixture)
    await page.getByText('200 events, 0 of them bad. Run "zonegate history" for older ones.').waitFor()
    assert.equal(await page.locator('#happened-list li').count(), 200)
  })
})
