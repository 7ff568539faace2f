-- For wrk: prints its counts in one line. With an argument N the requests go to N addresses at random: the path of the
-- address with a number from 0 to N-1 behind it.

local count

function init(arguments)
   count = tonumber(arguments[1])
   if count then
      math.randomseed(count)
      local path = wrk.path
      request = function()
         return wrk.format(nil, path .. math.random(0, count - 1))
      end
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      "RESULT requests=%d bytes=%d microseconds=%d connect=%d read=%d write=%d status=%d timeout=%d\n",
      summary.requests, summary.bytes, summary.duration,
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
