// Node's undici: undici.mjs MODULES URL REQUESTS AT_ONCE CA
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import process from "node:process";

const [modules, url, requests, atOnce, authority] = process.argv.slice(2);
const { Pool } = createRequire(`${modules}/`)("undici");
const target = new URL(url);
const pool = new Pool(target.origin, {
  connections: Number(atOnce),
  connect: authority ? { ca: readFileSync(authority) } : {},
  headersTimeout: 0,
  bodyTimeout: 0,
});
let left = Number(requests);
let done = 0;
let bytes = 0;
const took = [];

async function fetchAll() {
  while (left-- > 0) {
    const began = process.hrtime.bigint();
    const { body } = await pool.request({ path: target.pathname, method: "GET" });
    for await (const chunk of body) bytes += chunk.length;
    took.push(Number(process.hrtime.bigint() - began) / 1e3);
    done++;
  }
}

const before = process.resourceUsage();
const start = process.hrtime.bigint();
await Promise.all(Array.from({ length: Number(atOnce) }, fetchAll));
const after = process.resourceUsage();
const wall = Number(process.hrtime.bigint() - start) / 1e3;
took.sort((a, b) => a - b);
const quantile = (part) => took[Math.min(Math.floor(took.length * part), took.length - 1)];
console.log(JSON.stringify({
  done,
  failed: 0,
  bytes,
  user_us: after.userCPUTime - before.userCPUTime,
  sys_us: after.systemCPUTime - before.systemCPUTime,
  wall_us: Math.round(wall),
  switches: after.voluntaryContextSwitches + after.involuntaryContextSwitches
    - before.voluntaryContextSwitches - before.involuntaryContextSwitches,
  rss_kib: after.maxRSS,
  p50_us: quantile(0.5),
  p99_us: quantile(0.99),
  p999_us: quantile(0.999),
}));
process.exit(0);
