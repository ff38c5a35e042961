import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

/** Nobody catches what a callback throws that Node calls by itself: it would end the processor. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const REGISTRATION =
  /\b(?:setInterval|setTimeout|setImmediate|watchFile)\(|= watch\(|(?:socket|server|stream|call|reader|std\w+|response|process|watcher)\b[^=]*\.(?:on|once)\(/i
/** Named for what they are made by, as `guard` and `#flushGuarded`. */
const GUARDED = /guard/i
/** Of the processor: commands, `npm start` and the log's own output end with what goes wrong in them. */
const FILES = globSync('src/**/*.ts', { cwd: ROOT })
  .filter((file) => !file.endsWith('.test.ts'))
  .filter((file) => !/^src\/(?:launch|log-output|cli\/(?:client|pin|status)\.ts)/.test(file))

/** What throws nothing: it closes, forgets, clears or settles, and calls nobody else. The last line is of the process's end. */
const HARMLESS = [
  /=> (?:clearTimeout|forget|resolve|undefined|this\.#remove|this\.#watcher\?\.close|options\.streams\.close)/,
  /, (?:forget|fail)\)/,
  /=> resolve|new Promise/,
  /'uncaughtException'|process\.on\(signal/,
]

/** Read, and found to be sound: by file, the line's beginning, and why. */
const READ: readonly [file: string, line: string, why: string][] = [
  ['src/xds/envoy-stream.ts', "call.on('data', (request: ", 'puts it into the queue of guarded turns'],
  ['src/xds/load-report-service.ts', "call.on('data', (report: ", 'puts it into the queue of guarded turns'],
  ['src/grpc/health-service.ts', 'const end = setTimeout(() => fail(call', 'ends a stream'],
  ['src/grpc/listener.ts', 'const timer = setTimeout(() => {', 'ends a socket'],
  ['src/grpc/listener.ts', "server.once('error'", 'rejects, before the start'],
  ['src/stale-socket.ts', "socket.once('connect'", 'resolves, before the start'],
  ['src/grpc/server.ts', 'const timer = setTimeout(() => {', 'ends the server'],
  ['src/admin/server.ts', "server.on('connection', (socket: Socket)", 'counts, and ends a socket'],
  ['src/admin/server.ts', "socket.once('close', () => {", 'counts'],
  ['src/admin/server.ts', "server.on('request', ({ socket }: IncomingMessage", 'counts'],
  ['src/admin/server.ts', "response.once('close', () => {", 'counts'],
  ['src/admin/server.ts', "server.once('error'", 'rejects, before the start'],
  ['src/admin/server.ts', "server.removeAllListeners('error').on('error'", 'is what is told of bugs'],
  ['src/processor/alive-file.ts', 'setInterval(renew', 'changes the time of a file'],
  ['src/pins/pin-socket.ts', "server.once('error'", 'rejects, before the start'],
  ['src/pins/pin-socket.ts', "server.removeAllListeners('error').on('error'", 'is what is told of bugs'],
  ['src/config/load-apart.ts', "reader.stdout.setEncoding('utf8').on('data'", 'appends'],
  ['src/config/load-apart.ts', "reader.stderr.setEncoding('utf8').on('data'", 'appends'],
  ['src/tracing/otlp.ts', 'const timer = setTimeout(resolve', 'resolves'],
  ['src/timers.ts', 'this.#timeout = setTimeout(callback', 'is given what is guarded'],
]

function bareCallbacks(file: string): string[] {
  const lines = readFileSync(`${ROOT}/${file}`, 'utf8').split('\n')
  const guards = [...lines.join('\n').matchAll(/const (\w+) = guarded\(/g)].map(([, name]) => name)
  const isGuarded = (at: number): boolean =>
    GUARDED.test(lines.slice(at, at + 4).join(' ')) ||
    guards.some((name) => new RegExp(`[(,] ?${name}\\b`).test(lines[at] ?? ''))
  return lines.flatMap((line, at) => {
    if (/^\s*(?:\/?\*|\/\/)/.test(line) || !REGISTRATION.test(line) || isGuarded(at)) return []
    const isSound =
      HARMLESS.some((form) => form.test(line)) ||
      READ.some(([where, start]) => where === file && line.trim().startsWith(start))
    return isSound ? [] : [`${file}:${at + 1}: ${line.trim()}`]
  })
}

test('each callback of a timer, a watcher, a socket or a stream is guarded, or throws nothing', () => {
  assert.deepEqual(FILES.flatMap(bareCallbacks), [])
})
