-- The scan as wrk runs it: every request has another random id, at a given rate over all connections.
-- Arguments after `--`: ids a second, a seed. The last line printed is the result as JSON.
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanos; } zonegate_time;
  int clock_gettime(int clock, zonegate_time *time);
]]
local CLOCK_MONOTONIC = 1
local time = ffi.new("zonegate_time")
local interval, due

local function now()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, time)
  return tonumber(time.seconds) * 1000 + tonumber(time.nanos) / 1e6
end

function init(args)
  interval = 1000 / tonumber(args[1])
  math.randomseed(tonumber(args[2]))
end

-- Milliseconds until the next request is due. Requests follow a schedule, so slow answers don't slow the scan down.
function delay()
  local current = now()
  due = (due or current) + interval
  return math.max(0, math.floor(due - current + 0.5))
end

function request()
  local id = string.format("x%06d%06d", math.random(0, 999999), math.random(0, 999999))
  return wrk.format("POST", "/callback", { ["server"] = id }, "x")
end

function done(summary)
  local errors = summary.errors
  io.write(string.format('\n{"requests":%d,"refused":%d,"broken":%d}\n', summary.requests, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
