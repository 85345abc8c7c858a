-- What wrk measured, as one line that a program can read. Only `done` is defined: no Lua runs for a request.
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nWRK {"requests": %d, "seconds": %.6f, "p50": %.1f, "p99": %.1f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
