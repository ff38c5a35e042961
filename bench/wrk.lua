-- The load as wrk runs it: POSTs with a small body. Ids take turns, or are drawn by Zipf's law (id n comes 1/n as often as id 1).
-- Arguments after `--`: the number of zones, with or without ` zipf`; path; body; name and value of each header. `{id}` stands
-- for the id. The last line of the output is the result as JSON.
local requests, zones, turn = {}, 1, 0
-- The sum of the weights of an id and all ids before it.
local shares

function init(args)
  zones = tonumber(args[1]:match("%d+"))
  if args[1]:find("zipf") then
    shares = { 1 }
    for zone = 2, zones do shares[zone] = shares[zone - 1] + 1 / zone end
    math.randomseed(1)
  end
  for zone = 1, zones do
    local function with_id(text)
      return (text:gsub("{id}", zone))
    end
    local headers = {}
    for i = 4, #args, 2 do
      headers[args[i]] = with_id(args[i + 1])
    end
    requests[zone] = wrk.format("POST", with_id(args[2]), headers, with_id(args[3]))
  end
end

local function drawn()
  local draw, low, high = math.random() * shares[zones], 1, zones
  while low < high do
    local middle = math.floor((low + high) / 2)
    if shares[middle] < draw then low = middle + 1 else high = middle end
  end
  return low
end

function request()
  if shares then return requests[drawn()] end
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
