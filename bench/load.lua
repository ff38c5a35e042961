-- wrk's side of the benchmark: POSTs a small body, the `server` header cycling over the zones.
-- Arguments after `--`: the number of zones. The last line printed is the result as JSON.
local requests, zones, turn = {}, 1, 0

function init(args)
  zones = tonumber(args[1])
  for zone = 1, zones do
    requests[zone] = wrk.format("POST", "/callback", { ["server"] = tostring(zone) }, "hello")
  end
end

function request()
  turn = turn % zones + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"micros":%d,"p50Micros":%d,"p99Micros":%d,"maxMicros":%d,' ..
    '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
