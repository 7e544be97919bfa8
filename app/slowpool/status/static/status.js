// Shows the figures that status/live sends each second. All of them are inserted as text, never as HTML.

const AGAIN_MS = 1000; // between two attempts to connect
const LOST_SECONDS = 60; // how long an instance that died stays marked
const STEPS = 120;
const GOING_AWAY = 1001; // the close code of an instance that drains

const $ = (id) => document.getElementById(id);

const seconds = (value) => {
  if (value == null) return "–";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    if (value >= size) return `${short(value / size)} ${unit}`;
  }
  return `${short(value * 1000)} ms`;
};
const short = (value) => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(2))));
const rate = (pool) => short(pool.requests / 60);

// --- the figures of a pool

const FIGURES = {
  fast: [
    ["answering", (pool) => `${pool.answering} of ${pool.instances}`],
    ["requests/s", rate],
    ["active", (pool) => pool.active],
    ["p50", (pool) => seconds(pool.p50_seconds)],
    ["p99", (pool) => seconds(pool.p99_seconds)],
    ["refused", (pool) => pool.refused],
    ["failed", (pool) => pool.errors],
    ["loop lag", (pool) => seconds(pool.lag_seconds)],
  ],
};
FIGURES.slow = [
  ...FIGURES.fast.slice(0, 2),
  ["running", (pool) => `${pool.running} of ${pool.workers}`],
  ["waiting", (pool) => `${pool.waiting} of ${pool.places}`],
  ["accepted, waiting", (pool) => pool.accepted.waiting ?? 0],
  ["accepted, running", (pool) => pool.accepted.running ?? 0],
  ...FIGURES.fast.slice(3),
];

function fill(list, figures, values) {
  for (const [index, [name, show]] of figures.entries()) {
    let entry = list.children[index];
    if (!entry) {
      entry = document.createElement("div");
      entry.append(document.createElement("dt"), document.createElement("dd"));
      entry.firstChild.textContent = name;
      list.append(entry);
    }
    put(entry.lastChild, show(values));
  }
}

function put(element, value) {
  const text = String(value);
  if (element.textContent !== text) element.textContent = text;
}

// --- the tables

const INSTANCES = [
  ["instance", (one) => one.name],
  ["address", (one) => one.address],
  ["state", state],
  ["up", (one) => seconds(one.uptime_seconds)],
  ["active", (one) => one.active ?? "–"],
  ["running", (one) => (one.workers ? `${one.running.length} of ${one.workers}` : one.running?.length ?? "–")],
  ["waiting", (one) => one.waiting ?? "–"],
  ["requests", (one) => one.requests],
  ["p50", (one) => seconds(one.p50_seconds)],
  ["p99", (one) => seconds(one.p99_seconds)],
  ["refused", (one) => one.refused],
  ["failed", (one) => one.errors],
  ["workers restarted", (one) => one.worker_restarts ?? "–"],
  ["loop lag", (one) => seconds(one.lag_seconds)],
  ["memory", (one) => (one.resident_bytes ? `${Math.round(one.resident_bytes / 2 ** 20)} MiB` : "–")],
];
const JOBS = [
  ["instance", (job) => job.instance.name],
  ["task", (job) => job.task],
  ["progress", progress],
  ["age", (job) => seconds(job.age_seconds)],
  ["worker", (job) => job.worker || "–"],
  ["route", (job) => job.route],
  ["request id", (job) => job.request_id],
];

const FAILED = [
  ["job", (job) => job.job],
  ["route", (job) => job.route],
  ["failed", (job) => `${seconds(Math.max(0, job.age_seconds))} ago`],
  ["cause", (job) => job.error],
];

const percent = (job) => (job.progress == null ? null : `${Math.floor(job.progress * 100)} %`);

function progress(job) {
  return [percent(job), job.message].filter(Boolean).join(" · ") || "–";
}

const lost = (one) => one.lost_seconds != null && one.lost_seconds < LOST_SECONDS;

function state(one) {
  if (one.state === "no answer") return `✕ no answer for ${one.silent_seconds.toFixed(0)} s`;
  if (one.state === "unreadable") return "✕ sends an unreadable report";
  if (lost(one)) return `✕ ${one.state}, died ${one.lost_seconds.toFixed(0)} s ago`;
  return `${one.state === "ready" ? "●" : "◐"} ${one.state}`;
}

function kind(one) {
  if (one.state === "no answer" || one.state === "unreadable" || lost(one)) return "bad";
  return one.state === "ready" ? "good" : "warn";
}

function draw(table, columns, rows, keyOf, classOf) {
  if (!table.tBodies.length) {
    const head = table.createTHead().insertRow();
    for (const [title] of columns) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = title;
      head.append(cell);
    }
    table.createTBody();
    roles(table.tHead, "columnheader");
  }
  const body = table.tBodies[0];
  const old = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  for (const [index, value] of rows.entries()) {
    const key = keyOf(value);
    let row = old.get(key);
    old.delete(key);
    if (!row) {
      row = document.createElement("tr");
      row.dataset.key = key;
      for (const [place, [title]] of columns.entries()) {
        const cell = document.createElement(place ? "td" : "th");
        if (!place) cell.scope = "row";
        cell.dataset.label = title;
        if (title === "state" || title === "progress") cell.className = title;
        row.append(cell);
      }
    }
    if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
    row.className = classOf(value);
    for (const [place, [, show]] of columns.entries()) put(row.cells[place], show(value));
  }
  for (const row of old.values()) row.remove();
  roles(body, "rowheader");
}

// On a narrow screen the table is laid out as cards, and a browser would no longer call it a table.
function roles(part, header) {
  part.setAttribute("role", "rowgroup");
  for (const row of part.rows) {
    row.setAttribute("role", "row");
    for (const cell of row.cells) cell.setAttribute("role", cell.tagName === "TH" ? header : "cell");
  }
}

// --- the plots

const PLOTS = [
  ["Requests per second", (value) => short(value), [
    ["fast", "--fast", [], (fast, _, length) => fast && fast.requests / length],
    ["slow", "--slow", [], (_, slow, length) => slow && slow.requests / length],
    ["refused", "--bad", [4, 4], (fast, slow, length) => ((fast?.refused ?? 0) + (slow?.refused ?? 0)) / length],
  ]],
  ["Time to the answer, fast pool", seconds, [
    ["p50", "--fast", [], (fast) => fast?.p50_seconds],
    ["p99", "--fast", [4, 4], (fast) => fast?.p99_seconds],
  ]],
  ["Slow jobs", (value) => short(value), [
    ["running", "--slow", [], (_, slow) => slow?.running],
    ["waiting", "--slow", [4, 4], (_, slow) => slow?.waiting],
  ]],
  ["Event loop lag, the most of each step", seconds, [
    ["fast", "--fast", [], (fast) => fast?.lag_seconds],
    ["slow", "--slow", [4, 4], (_, slow) => slow?.lag_seconds],
  ]],
];

const plots = PLOTS.map(([title, unit, series]) => {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  const legend = document.createElement("div");
  legend.className = "legend";
  const marks = series.map(([name, color, dash]) => {
    const entry = document.createElement("span");
    const line = document.createElement("i");
    line.style.borderColor = `var(${color})`;
    line.classList.toggle("dashed", dash.length > 0);
    entry.append(line, document.createElement("span"));
    legend.append(entry);
    return [name, entry.lastChild];
  });
  const canvas = document.createElement("div");
  canvas.setAttribute("role", "img");
  caption.append(legend);
  figure.append(caption, canvas);
  $("plots").append(figure);
  return { title, unit, series, marks, canvas, plot: null };
});

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function make(one) {
  one.plot?.destroy();
  const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  one.plot = new uPlot({
    width: one.canvas.clientWidth || 300,
    height: 170,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [axis, { ...axis, size: 64, values: (_, ticks) => ticks.map(one.unit) }],
    series: [{}, ...one.series.map(([name, stroke, dash]) => ({
      label: name, stroke: color(stroke), dash, width: 2, points: { show: false },
    }))],
  }, one.data, one.canvas);
}

const steps = { fast: new Map(), slow: new Map() };

function plotAll(content) {
  const length = content.step_seconds;
  for (const pool of ["fast", "slow"]) {
    for (const [number, step] of Object.entries(content.steps[pool])) steps[pool].set(Number(number), step);
  }
  const last = Math.floor(content.time / length);
  const numbers = Array.from({ length: STEPS }, (_, index) => last - STEPS + 1 + index);
  for (const pool of ["fast", "slow"]) {
    for (const number of steps[pool].keys()) if (number < numbers[0]) steps[pool].delete(number);
  }
  // The step that has just begun has not counted enough yet: rates end with the one before.
  const whole = numbers.slice(0, -1);
  for (const one of plots) {
    const lines = one.series.map(([, , , value]) => whole.map((number) => {
      const [fast, slow] = [steps.fast.get(number), steps.slow.get(number)];
      return fast || slow ? value(fast, slow, length) ?? null : null;
    }));
    one.data = [whole.map((number) => number * length), ...lines];
    if (one.plot) one.plot.setData(one.data);
    else make(one);
    const now = one.marks.map(([name, label], index) => {
      const value = lines[index].at(-1);
      const text = `${name} ${value == null ? "–" : one.unit(value)}`;
      put(label, text);
      return text;
    });
    one.canvas.setAttribute("aria-label", `${one.title}, now: ${now.join(", ")}`);
  }
}

const remake = () => plots.forEach((one) => one.plot && make(one));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", remake);
new ResizeObserver(() => plots.forEach((one) => one.plot?.setSize({ width: one.canvas.clientWidth, height: 170 })))
  .observe($("plots"));

// --- what to do

function advise(hints) {
  const list = $("hints");
  hints.forEach((hint, index) => {
    if (!list.children[index]) list.append(document.createElement("li"));
    put(list.children[index], hint);
  });
  while (list.children.length > hints.length) list.lastChild.remove();
  $("all-well").hidden = hints.length > 0;
  const count = hints.length === 1 ? "1 thing is wrong." : `${hints.length} things are wrong.`;
  put($("announcement"), hints.length ? count : "All is well."); // a screen reader reads it when it changes, not each second
  document.title = hints.length ? `(${hints.length}) slowpool status` : "slowpool status";
}

// --- nginx

const NGINX = /Active connections: (\d+)\s+server accepts handled requests\s+(\d+) \d+ (\d+)\s+Reading: (\d+) Writing: (\d+) Waiting: (\d+)/;
const NGINX_FIGURES = ["connections", "accepted", "requests", "reading", "writing", "idle"]
  .map((name, index) => [name, (found) => found[index + 1]]);

async function askNginx() {
  const answer = await fetch("status/nginx").catch(() => null);
  const found = answer?.ok && (await answer.text()).match(NGINX);
  $("nginx").hidden = !found;
  if (found) fill($("nginx").querySelector("dl"), NGINX_FIGURES, found);
  return answer?.status !== 404; // an nginx built without its status page
}

// --- live

let paused = false;
let socket;

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").ariaPressed = String(paused);
  $("pause").textContent = paused ? "Go on" : "Pause";
  if (paused) socket.close();
  else connect();
  say(paused ? "paused" : "connecting…", "warn");
});

function say(text, kindOf) {
  put($("connection"), text);
  $("connection").className = kindOf;
}

// The instance that serves the page may die; the next one does not know that it did.
const known = new Map();

function remember(content) {
  for (const one of content.instances) {
    const key = `${one.address}:${one.port}`;
    if (one.state === "stopped") known.delete(key);
    if (one.uptime_seconds == null) continue;
    const born = content.time - one.uptime_seconds;
    const before = known.get(key);
    const lostAt = before && born > before.born + 1 ? content.time : before?.lostAt;
    known.set(key, { born, lostAt });
    if (lostAt) one.lost_seconds ??= content.time - lostAt;
  }
}

function show(content) {
  remember(content);
  advise(content.hints);
  for (const pool of ["fast", "slow"]) fill($(pool).querySelector("dl"), FIGURES[pool], content.pools[pool]);
  draw($("instances"), INSTANCES, content.instances, (one) => `${one.address}:${one.port}`, (one) => `${one.pool} ${kind(one)}`);
  const jobs = content.instances
    .flatMap((instance) => (instance.running ?? []).map((job) => ({ ...job, instance })))
    .sort((one, other) => other.age_seconds - one.age_seconds);
  $("jobs").hidden = jobs.length === 0;
  $("no-jobs").hidden = jobs.length > 0;
  draw($("jobs"), JOBS, jobs, (job) => `${job.instance.address} ${job.instance.name} ${job.job} ${job.request_id}`, () => "slow");
  for (const [index, job] of jobs.entries()) {
    const bar = $("jobs").tBodies[0].rows[index].querySelector(".progress").style;
    bar.setProperty("--done", `${(job.progress ?? 0) * 100}%`);
    bar.setProperty("--all", job.progress == null ? "0%" : "100%");
  }
  $("failed").hidden = content.failed_jobs.length === 0;
  const failed = content.failed_jobs.map((job) => ({ ...job, age_seconds: content.time - job.ended }));
  draw($("failed-jobs"), FAILED, failed, (job) => job.job, () => "slow bad");
  plotAll(content);
}

function connect() {
  const live = new URL("status/live", location); // beside this page: nginx and an instance have it at different paths
  live.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const opened = new WebSocket(live);
  socket = opened;
  opened.onmessage = (event) => {
    say("● live", "good");
    show(JSON.parse(event.data));
  };
  opened.onclose = (event) => {
    if (event.code === GOING_AWAY) known.clear(); // an intended restart
    if (paused || socket !== opened) return;
    say("✕ no connection, trying again; the figures are old", "bad");
    setTimeout(() => paused || connect(), AGAIN_MS);
  };
}

connect();
(async () => {
  while (await askNginx()) await new Promise((resolve) => setTimeout(resolve, 2000));
})();
