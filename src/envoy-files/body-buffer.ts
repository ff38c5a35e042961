import type { Place, YamlFile } from '../xds/yaml-file.ts'

/**
 * While the processor is asked, Envoy buffers the body and stops reading at the listener's `per_connection_buffer_limit_bytes`. It
 * reads in large steps, so it may have up to 2.25 times as much by then. The filter `buffer` then sets its own limit, and Envoy
 * reads on only while it has less than half of that (Envoy: WatermarkBuffer). With a smaller limit the request would hang.
 */
const CONNECTION_LIMITS_MIN = 5
/** Envoy's default for `per_connection_buffer_limit_bytes`. */
const CONNECTION_LIMIT_DEFAULT = 1_048_576

const FILTER_CONFIG = /\/envoy\.config\.route\.v3\.FilterConfig$/
const PER_ROUTE = /\/envoy\.extensions\.filters\.http\.buffer\.v3\.BufferPerRoute$/
const EXT_PROC = /\/envoy\.extensions\.filters\.http\.ext_proc\.v3\.ExternalProcessor$/
const FILTER = /\/envoy\.extensions\.filters\.http\.buffer\.v3\.Buffer$/

interface SmallBuffer {
  readonly place: Place
  readonly what: string
}

/** Settings of the filter `buffer` that would make requests hang: of a route, a virtual host or all routes. */
export function smallBuffersOfRoute(file: YamlFile, route: Place, listeners: YamlFile): SmallBuffer[] {
  return file
    .entries(either(file, route, 'typed_per_filter_config', 'typedPerFilterConfig'))
    .map(([, setting]) =>
      FILTER_CONFIG.test(file.text(setting, '@type') ?? '') ? file.at(setting, 'config') : setting,
    )
    .filter((setting) => PER_ROUTE.test(file.text(setting, '@type') ?? ''))
    .flatMap((setting) => tooSmall(file, file.at(setting, 'buffer'), listeners, askingListeners(listeners)))
}

/** The same for the filter itself, wherever it is in Envoy's listeners. */
export function smallBuffersOfListeners(listeners: YamlFile): SmallBuffer[] {
  return askingListeners(listeners).flatMap((listener) =>
    ofType(listeners, listener, FILTER).flatMap((buffer) =>
      tooSmall(listeners, buffer, listeners, [listener]),
    ),
  )
}

function tooSmall(
  file: YamlFile,
  buffer: Place | undefined,
  listeners: YamlFile,
  asking: readonly Place[],
): SmallBuffer[] {
  const place = either(file, buffer, 'max_request_bytes', 'maxRequestBytes')
  const limits = asking.map((listener) =>
    either(listeners, listener, 'per_connection_buffer_limit_bytes', 'perConnectionBufferLimitBytes'),
  )
  const octets = limits.map((limit) => Number(listeners.scalar(limit) ?? CONNECTION_LIMIT_DEFAULT))
  const octetsMin = CONNECTION_LIMITS_MIN * Math.max(0, ...octets)
  if (place === undefined || Number(file.scalar(place)) >= octetsMin) return []
  const what = `expected ${octetsMin} or more, ${CONNECTION_LIMITS_MIN} times per_connection_buffer_limit_bytes of the listener: Envoy would let requests hang on the cold path`
  return [{ place, what }]
}

/** The listeners that ask the processor. */
function askingListeners(listeners: YamlFile): Place[] {
  return listeners
    .items(listeners.at(listeners.root, 'resources'))
    .filter((listener) => ofType(listeners, listener, EXT_PROC).length > 0)
}

/** All messages of a type at or below a place. */
function ofType(file: YamlFile, place: Place, type: RegExp): Place[] {
  const inner = [...file.items(place), ...file.entries(place).map(([, value]) => value)]
  const found = inner.flatMap((each) => ofType(file, each, type))
  return type.test(file.text(place, '@type') ?? '') ? [place, ...found] : found
}

function either(
  file: YamlFile,
  place: Place | undefined,
  name: string,
  inCamelCase: string,
): Place | undefined {
  return file.at(place, name) ?? file.at(place, inCamelCase)
}
