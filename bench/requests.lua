-- Sends requests that were written out beforehand, picked at random, and prints what came of it as one line of JSON. With
-- BENCH_ONCE they are sent in their order and each once; when there are no more, what is sent is answered with 404.
-- The file named by BENCH_REQUESTS holds them one after another: a line with the length in bytes, then the bytes.
local threads = 0

function setup(thread)
  thread:set("seed", 7 + threads * 7919)
  thread:set("place", threads + 1)
  threads = threads + 1
end

function init()
  math.randomseed(seed)
  requests = {}
  local file = assert(io.open(os.getenv("BENCH_REQUESTS"), "rb"))
  while true do
    local length = file:read("*n")
    if not length then break end
    file:read(1)
    requests[#requests + 1] = file:read(length)
  end
  file:close()
  count = #requests
  step = tonumber(os.getenv("BENCH_ONCE") or "0")
end

function request()
  if step > 0 then
    local next_one = requests[place] or "GET /no-more HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    place = place + step
    return next_one
  end
  return requests[math.random(count)]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p90_ms": %.4f, "p99_ms": %.4f, "max_ms": %.4f, ' ..
    '"status_errors": %d, "socket_errors": %d, "timeouts": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(90) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end
