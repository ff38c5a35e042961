import assert from 'node:assert/strict'
import { test } from 'node:test'
import { everywhere, withId } from './requests.ts'

test('the id stands in every place', () => {
  assert.deepEqual(withId(everywhere('json'), '12'), {
    path: '/cb/12/pay?a=1&server=12',
    headers: {
      Host: '12.cb.test',
      server: '12',
      cookie: 'server=12; a=1',
      'content-type': 'application/json',
    },
    body: '{"server":"12"}',
  })
})

test('a form has the id in its body, too', () => {
  assert.equal(withId(everywhere('form'), '12').body, 'server=12')
})
