// The table of instances. The page remembers the process of each: one that takes over does not know that another died.

import { NO_LOSS, actButton } from "./act.js";
import { $ } from "./dom.js";
import { bytes, count, seconds } from "./format.js";
import { Table } from "./table.js";

const LOST_SECONDS = 60; // how long an instance that died stays marked
const GAP_MS = 10_000; // after it another process may have come as intended

const known = new Map(); // process_id and when one died, by the clock of this page
let lookedAt = 0;
let table;

const keyOf = (one) => `${one.address}:${one.port}`;
const isLost = (one) => one.lost_seconds != null && one.lost_seconds < LOST_SECONDS;

const COLUMNS = [
  { title: "instance", text: (one) => one.name },
  { title: "address", className: "start", text: (one) => one.address },
  { title: "state", className: "start state", text: state },
  { title: "up", text: (one) => seconds(one.uptime_seconds) },
  { title: "active", text: (one) => count(one.active) },
  { title: "running", text: (one) => (one.workers ? `${one.running.length} of ${one.workers}` : one.running?.length ?? "–") },
  { title: "waiting", text: (one) => count(one.waiting) },
  { title: "requests", text: (one) => count(one.requests) },
  { title: "p50", text: (one) => seconds(one.p50_seconds) },
  { title: "p99", text: (one) => seconds(one.p99_seconds) },
  { title: "refused", text: (one) => count(one.refused) },
  { title: "failed", text: (one) => count(one.errors) },
  { title: "workers restarted", text: (one) => count(one.worker_restarts) },
  { title: "loop lag", text: (one) => seconds(one.lag_seconds) },
  { title: "memory", text: (one) => bytes(one.resident_bytes) },
  { title: "action", className: "actions", fill: offer },
];

export function begin() {
  table = new Table($("instances"), COLUMNS, { keyOf, classOf: (one) => `${one.pool} ${kind(one)}`, narrow: "78rem" });
}

// The instance that served the page ends as intended, and others may follow it.
export const forget = () => known.clear();

export function remember(content) {
  const now = Date.now(); // the servers of two messages may have different clocks
  if (now - lookedAt > GAP_MS) forget();
  lookedAt = now;
  for (const one of content.instances) {
    const key = keyOf(one);
    if (one.state === "stopped") known.delete(key);
    if (!one.process_id) continue; // it does not answer, or is of an older release
    const before = known.get(key);
    const lostAt = before && before.process !== one.process_id ? now : before?.lostAt;
    known.set(key, { process: one.process_id, lostAt });
    if (lostAt) one.lost_seconds ??= (now - lostAt) / 1000;
  }
}

export const drawInstances = (instances) => table.draw(instances);

function state(one) {
  if (one.state === "no answer") return `✕ no answer for ${count(one.silent_seconds)} s`;
  if (one.state === "unreadable") return "✕ sends an unreadable report";
  if (isLost(one)) return `✕ ${one.state}, died ${count(one.lost_seconds)} s ago`;
  return `${one.state === "ready" ? "●" : "◐"} ${one.state}`;
}

function kind(one) {
  if (one.state === "no answer" || one.state === "unreadable" || isLost(one)) return "bad";
  return one.state === "ready" ? "good" : "warn";
}

function offer(cell, one) {
  if (cell.firstChild) return;
  const name = `${one.name} at ${one.address}`;
  cell.append(actButton("restart", `drain and restart ${name}`, () => ({
    title: `Drain and restart ${name}?`,
    effect: `It takes no new request, finishes what it has accepted, ends and starts again. ${NO_LOSS}`,
    verb: "Drain and restart it",
    body: { action: "restart", instance: one.name, address: one.address },
  })));
}
