/** What requests look like. `{id}` stands for the zone's id in path, body and values of headers. */
export interface RequestForm {
  readonly path: string
  /** By name. `Host` is written with a capital letter, as wrk wants it. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export const plain: RequestForm = { path: '/callback', headers: { server: '{id}' }, body: 'hello' }
export const withoutId: RequestForm = { ...plain, headers: {} }

/** The id in each place where a rule may look for it. */
export function everywhere(body: 'json' | 'form'): RequestForm {
  return {
    path: '/cb/{id}/pay?a=1&server={id}',
    headers: {
      Host: '{id}.cb.test',
      server: '{id}',
      cookie: 'server={id}; a=1',
      'content-type': body === 'json' ? 'application/json' : 'application/x-www-form-urlencoded',
    },
    body: body === 'json' ? '{"server":"{id}"}' : 'server={id}',
  }
}

export function withId({ path, headers, body }: RequestForm, id: string): RequestForm {
  const put = (text: string) => text.replaceAll('{id}', id)
  return {
    path: put(path),
    headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, put(value)])),
    body: put(body),
  }
}
