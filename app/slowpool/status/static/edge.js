// What nginx itself answers and counts: its connections, and the counters of status/edge in Prometheus' text format.

import { $, fill, put } from "./dom.js";
import { count, seconds } from "./format.js";
import { beside } from "./live.js";
import { Table } from "./table.js";

const ASK_MS = 5000;
const MINUTE_MS = 60_000;
const GAP_MS = 3 * ASK_MS; // after it, what has happened in the last minute is not known

const NGINX = /Active connections: (\d+)\s+server accepts handled requests\s+(\d+) \d+ (\d+)\s+Reading: (\d+) Writing: (\d+) Waiting: (\d+)/;
const NGINX_FIGURES = ["connections", "accepted", "requests", "reading", "writing", "idle"]
  .map((name, index) => [name, (found) => count(Number(found[index + 1]))]);

const SAMPLE = /^([a-z_:][\w:]*)(?:\{(.*)\})? +([\d.e+]+)$/gim;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const FAILED = ["answered 502", "answered 503", "answered 504"]; // since no instance has
const RARE = /^answered (?!413|421|429|502|503|504)/; // shown once they have been counted
const COLUMNS = [
  { title: "counter", text: (one) => one.name },
  { title: "last minute", text: (one) => count(one.minute) },
  { title: "since nginx started", text: (one) => count(one.total) },
];

let table;
let samples = []; // {at, totals} of the last minute, the oldest first

export function begin() {
  if (location.pathname.startsWith("/-/")) return; // an instance without nginx in front
  const isBad = (one) => one.minute > 0 && FAILED.includes(one.name);
  table = new Table($("edge"), COLUMNS, { keyOf: (one) => one.name, classOf: (one) => (isBad(one) ? "bad" : ""), narrow: "20rem" });
  keepAsking("status/nginx", (text) => {
    const found = text?.match(NGINX);
    $("nginx").hidden = !found;
    if (found) fill($("nginx"), NGINX_FIGURES, found);
  });
  keepAsking("status/edge", drawCounters);
}

// What an operator should know, as the server's hints, which come from the instances only.
export function hints() {
  forgetOld();
  const failed = FAILED.map((name) => [name, inLastMinute(name)]).filter(([, requests]) => requests > 0);
  const told = failed.map(([name, requests]) => (
    `${count(requests)} request${requests === 1 ? "" : "s"} ${name.replace("answered", "with")}`
  ));
  return told.length ? [`nginx itself answered ${told.join(", ")} in the last minute; its access log names them.`] : [];
}

// show(text) gets null when there is no answer. 204 and 404: this nginx does not count.
async function keepAsking(path, show) {
  for (;;) {
    if (!document.hidden) {
      const answer = await fetch(beside(path), { signal: AbortSignal.timeout(ASK_MS) }).catch(() => null);
      const text = answer?.status === 200 ? await answer.text().catch(() => null) : null;
      show(text);
      $("edge-section").hidden = $("nginx").hidden && $("edge").hidden;
      if (answer?.status === 204 || answer?.status === 404) return;
    }
    await new Promise((resolve) => setTimeout(resolve, ASK_MS));
  }
}

function drawCounters(text) {
  const totals = text === null ? new Map() : parse(text);
  $("edge").hidden = $("edge-note").hidden = totals.size === 0;
  if (!totals.size) return;
  forgetOld();
  const now = Date.now();
  const before = samples.at(-1)?.totals;
  if (before && [...totals].some(([name, total]) => total < before.get(name))) samples = []; // nginx has started anew
  samples.push({ at: now, totals });
  while (samples.length > 1 && now - samples[1].at >= MINUTE_MS) samples.shift();
  const since = (now - samples[0].at) / 1000;
  put($("edge-note"), since > 0 && since < 55 ? `The last minute begins with this page: ${seconds(since)} so far.` : "");
  table.draw([...totals].filter(([name, total]) => total || !RARE.test(name)).map(([name, total]) => ({
    name, total, minute: inLastMinute(name),
  })));
}

// By a clock that goes on while the machine sleeps.
function forgetOld() {
  if (samples.length && Date.now() - samples.at(-1).at > GAP_MS) samples = [];
}

// null while it is not known.
function inLastMinute(name) {
  if (samples.length < 2) return null;
  return (samples.at(-1).totals.get(name) ?? 0) - (samples[0].totals.get(name) ?? 0);
}

// The counters by a name for people; those of both pools together, as "answered 503".
function parse(text) {
  const totals = new Map();
  for (const [, family, labels, value] of text.matchAll(SAMPLE)) {
    if (family.startsWith("nginx_connections")) continue; // status/nginx has them
    const { status, ...others } = Object.fromEntries([...(labels ?? "").matchAll(LABEL)].map((found) => found.slice(1)));
    const words = family.replace(/^nginx_/, "").replace(/_total$/, "").replaceAll("_", " ");
    const name = status ? `answered ${status}` : [words, ...Object.values(others)].join(", ");
    totals.set(name, (totals.get(name) ?? 0) + Number(value));
  }
  return totals;
}
