-- What wrk saw, as the benchmark's other clients tell it. Nothing here runs for each request.
function done(summary, latency, requests)
  local failed = 0
  for _, count in pairs(summary.errors) do
    failed = failed + count
  end
  io.write(string.format(
    '{"done": %d, "failed": %d, "p50_us": %.1f, "p99_us": %.1f, "p999_us": %.1f}\n',
    summary.requests, failed,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
