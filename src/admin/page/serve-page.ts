import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { REASONS } from '../../status/reasons.ts'

/** Every file that a browser may fetch, by path. A closed list, so that no path of a request reaches the disk. */
const FILES = {
  '/': 'page.html',
  '/page/page.css': 'page.css',
  '/page/icon.svg': 'icon.svg',
  '/page/page.js': 'page.js',
  '/page/dom.js': 'dom.js',
  '/page/event-stream.js': 'event-stream.js',
  '/page/explain.js': 'explain.js',
  '/page/format.js': 'format.js',
  '/page/happened.js': 'happened.js',
  '/page/live.js': 'live.js',
  '/page/overview.js': 'overview.js',
  '/page/panels.js': 'panels.js',
  '/page/recent-refusals.js': 'recent-refusals.js',
  '/page/row-window.js': 'row-window.js',
  '/page/sparkline.js': 'sparkline.js',
  '/page/status-model.js': 'status-model.js',
  '/page/token.js': 'token.js',
  '/page/zone-list.js': 'zone-list.js',
  '/page/zone-row.js': 'zone-row.js',
  '/page/zone-table.js': 'zone-table.js',
} as const

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
  json: 'application/json',
}

/**
 * Some of what the page shows comes from callers and nameservers. So the page may load nothing from other origins, has no
 * inline code, makes no markup from text (Trusted Types), and may not be framed.
 */
const SECURITY_HEADERS = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
} as const

interface PageFile {
  readonly body: Buffer
  readonly headers: Readonly<Record<string, string>>
}

/** @returns false if the request is for something else; the response is then untouched */
export type PageHandler = (request: IncomingMessage, response: ServerResponse) => boolean

/**
 * Reads the page's files once, and answers GET and HEAD for them. Call it before the token is checked: the files hold no
 * secret, and the page itself asks for the token.
 */
export function createPageHandler(): PageHandler {
  const files = new Map<string, PageFile>()
  for (const [path, file] of Object.entries(FILES)) {
    files.set(path, pageFile(file, readFileSync(new URL(file, import.meta.url))))
  }
  files.set('/page/reasons.json', pageFile('reasons.json', Buffer.from(JSON.stringify(REASONS))))

  return (request, response) => {
    const file = files.get(request.url?.split('?', 1)[0] ?? '')
    if (file === undefined || (request.method !== 'GET' && request.method !== 'HEAD')) return false
    const current = matches(request.headers['if-none-match'], file.headers['etag'] ?? '')
    if (current) response.writeHead(304, file.headers).end()
    else {
      response.writeHead(200, { ...file.headers, 'content-length': file.body.length })
      response.end(request.method === 'HEAD' ? undefined : file.body)
    }
    return true
  }
}

function pageFile(file: string, body: Buffer): PageFile {
  const extension = file.slice(file.lastIndexOf('.') + 1)
  return {
    body,
    headers: {
      ...SECURITY_HEADERS,
      'content-type': CONTENT_TYPES[extension] ?? 'application/octet-stream',
      // Browsers ask each time and get 304, so an upgraded processor never meets scripts of an older version.
      'cache-control': 'no-cache',
      etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`,
    },
  }
}

/** RFC 9110 §13.1.2: weak comparison with any of a list, or `*`. */
function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false
  if (ifNoneMatch.trim() === '*') return true
  return ifNoneMatch.split(',').some((one) => one.trim().replace(/^W\//, '') === etag)
}
