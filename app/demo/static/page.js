// Sends slow and fast requests at the same time, or has the server do so, and draws each as a bar on one axis of time.

import { $, ask, lines, problem, reason, time } from "./shared.js";

// The same that the server sends for PLAIN. The fast ones take turns on the connections that the slow ones leave.
const [SLOW, FAST, LANES] = ["slow", "fast", "lanes"].map((name) => Number($("form").dataset[name]));
const N = 6000; // the work of a slow request
const PLAIN = "/plain"; // the server sends the requests, since nobody else can reach the process
const SPANS = [4, 6, 8, 12, 20, 40, 60, 80, 120]; // lengths of the axis while requests run, in seconds
const STEPS = [0.001, 0.01, 0.1, 1, 10, 100].flatMap((power) => [power, 2 * power, 5 * power]); // between its ticks
const MOST_TICKS = 5;

const timeline = $("timeline");
const still = matchMedia("(prefers-reduced-motion: reduce)");

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = $("send");
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true"; // not .disabled, which would lose the focus
  button.textContent = "Waiting for answers…";
  try {
    await run($("form").elements.route.value);
  } finally {
    button.ariaDisabled = "false";
    button.textContent = `Send ${SLOW + FAST} requests again`;
  }
});

async function run(route) {
  const isPlain = route === PLAIN;
  $("slow-path").textContent = isPlain ? "/slow" : route;
  const slow = rows("slow", SLOW);
  const fast = rows("fast", FAST);
  const all = [...slow, ...fast];
  timeline.hidden = false;
  say(isPlain ? "Starting the process…" : `Sent ${SLOW} slow requests and ${FAST} fast ones.`);
  await new Promise((resolve) => setTimeout(resolve, 50)); // drawing the rows is not in the figures

  try {
    const stop = await (isPlain ? watch(slow, fast) : send(route, slow, fast));
    stop(Math.max(...all.map((row) => row.to)));
  } catch (error) {
    timeline.hidden = true;
    say(reason(error), true);
    return;
  }
  const ends = slow.filter((row) => row.ok).map((row) => row.to);
  const slowText = ends.length
    ? `the first slow one after ${time(Math.min(...ends))}, the last after ${time(Math.max(...ends))}`
    : "no slow request was answered";
  sayHow(all, `${lastFast(fast)}, ${slowText}.`);
  if (all.every((row) => row.ok)) $("observed").textContent = (isOneForAll(slow) ? ONE_FOR_ALL : OBSERVED[route])(slow);
}

/** Sends the requests from here. Returns the function that ends the axis. */
async function send(route, slow, fast) {
  const { elapsed, stop } = clock();
  const slowEnded = slow.map((row) => fetchRow(row, `${route}?id=${row.id}&n=${N}`, elapsed));
  const queue = fast.values(); // the lanes share it: each takes the next request when its last has ended
  const lanes = Array.from({ length: LANES }, async () => {
    for (const row of queue) await fetchRow(row, `/fast?id=${row.id}`, elapsed);
  });
  await Promise.all(lanes);
  if (slow.some((row) => row.to === undefined)) {
    sayHow(fast, `${lastFast(fast)}; slow requests are still running.`);
  }
  await Promise.all(slowEnded);
  return stop;
}

async function fetchRow(row, url, elapsed) {
  row.begin(elapsed());
  let by, why;
  try {
    const response = await fetch(url, { cache: "no-store" });
    by = response.headers.get("X-Served-By");
    if (response.status === 200) await response.text();
    else why = await problem(response);
  } catch (error) {
    why = reason(error);
  }
  row.end(elapsed(), by, why);
}

/** Has the server send the requests to one process. Returns the function that ends the axis. */
async function watch(slow, fast) {
  const response = await ask(`${PLAIN}?n=${N}`);
  let running, by, failure;
  try {
    for await (const line of lines(response)) {
      const { pid, path, id, at, status } = JSON.parse(line);
      if (pid) {
        running = clock();
        by = `pid ${pid}`;
        say("The process has the requests.");
        continue;
      }
      const row = (path === "/fast" ? fast : slow)[id - 1];
      if (status === undefined) row.begin(at);
      else row.end(at, by, status === 200 ? undefined : status);
    }
  } catch (error) {
    failure = error;
  }
  if (!running) throw failure ?? new Error("the answer is empty");
  for (const row of [...slow, ...fast]) {
    if (row.to === undefined) row.end(running.elapsed(), "", reason(failure));
  }
  return running.stop;
}

/** Route -> what the answers to the slow requests tell about it. */
const OBSERVED = {
  "/slow_threaded": (slow) => `The slow requests ran in workers of ${instances(slow)}.`,
  "/report": (slow) => `Sent to the fast pool, handed over, and answered by ${instances(slow)}.`,
  "/stall": (slow) => {
    const held = slow.filter(isFast);
    const free = slow.filter((row) => !isFast(row));
    const handedOver = free.length ? `Handed over, since the route was learned: answered by ${instances(free)}.` : "";
    if (!held.length) return `${handedOver} No fast instance was held up.`;
    return `Held up: ${instances(held)}. ${handedOver} Send again to see what was learned.`;
  },
  "/slow": (slow) => `Held up: ${instances(slow)}.` + (slow.some(isFast) ? "" : " No fast instance was."),
  [PLAIN]: (slow) => `One process, ${slow[0].by}, answered all requests, one after the other.`,
};
const ONE_FOR_ALL = (slow) => `One process, ${slow[0].by}, is both pools and answered all requests.`;

/** Whether an instance with both pools' routes has answered, as 'slowpool serve --pool=all' starts it. */
function isOneForAll(answered) {
  return answered.every((row) => row.by.startsWith("all:"));
}

function isFast(row) {
  return row.by.startsWith("fast:");
}

/** Who answered these rows, such as "slow:8101 and slow:8102". */
function instances(answered) {
  const names = [...new Set(answered.map((row) => row.by))].sort();
  return names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0];
}

/** Keeps the axis and the waiting bars going until `stop`, at which the axis ends with the last bar. */
function clock() {
  const start = performance.now();
  const elapsed = () => performance.now() - start;
  let frame;
  let shown = -Infinity;
  const draw = () => {
    shown = elapsed();
    timeline.style.setProperty("--now", shown);
    axis(1000 * (SPANS.find((seconds) => shown < seconds * 1000) ?? Math.ceil(shown / 1000)));
  };
  const tick = () => {
    if (!still.matches || elapsed() - shown > 1000) draw();
    frame = requestAnimationFrame(tick);
  };
  const stop = (end) => {
    cancelAnimationFrame(frame);
    axis(end);
  };
  tick();
  return { elapsed, stop };
}

/** Gives the axis this length, in milliseconds, and its ticks. */
function axis(length) {
  if (timeline.style.getPropertyValue("--span") === String(length)) return;
  const step = STEPS.find((seconds) => length < seconds * 1000 * MOST_TICKS) ?? length / 1000;
  timeline.style.setProperty("--span", length);
  timeline.style.setProperty("--step", step * 1000);
  const ticks = Array.from({ length: Math.floor(length / step / 1000) + 1 }, (_, index) => {
    const tick = span("", `${+(index * step).toFixed(3)} s`);
    tick.style.setProperty("--at", index * step * 1000);
    return tick;
  });
  timeline.querySelector(".ticks").replaceChildren(...ticks);
}

/** A request and its bar: when it was sent and answered, in milliseconds, by which instance, and whether well. */
class Row {
  constructor(id) {
    this.id = id;
    this.by = "";
    this.ok = false;
    this.to = undefined;
    this.item = document.createElement("li");
    this.item.className = "row";
    const track = span("track", "");
    track.append(span("bar", ""));
    this.item.append(span("id", id), track);
  }

  begin(at) {
    this.from = at;
    this.item.style.setProperty("--from", at);
    this.item.classList.add("waiting");
  }

  /** With `why` it has failed. */
  end(at, by, why) {
    if (this.from === undefined) this.begin(at);
    this.to = at;
    this.by = (by ?? "").replace(/^(\w+:\d+:.{4}).*/, "$1"); // enough of the name of a container
    this.ok = why === undefined;
    this.item.style.setProperty("--to", at);
    this.item.classList.replace("waiting", this.ok ? "answered" : "failed");
    this.item.append(span("ms", time(this.to - this.from)), span("by", this.by));
    if (why) this.item.append(span("why", why));
  }
}

function rows(list, count) {
  const made = Array.from({ length: count }, (_, index) => new Row(index + 1));
  $(list).replaceChildren(...made.map((row) => row.item));
  return made;
}

function lastFast(fast) {
  const ends = fast.filter((row) => row.ok).map((row) => row.to);
  return ends.length ? `The last fast answer came after ${time(Math.max(...ends))}` : "No fast request was answered";
}

/** Shows a sentence; a screen reader says it. */
function say(sentence, failed = false) {
  $("summary").textContent = sentence;
  $("summary").classList.toggle("failed", failed);
  $("observed").textContent = "";
}

/** Shows a sentence about requests that have ended. Puts in front how many of them failed. */
function sayHow(ended, sentence) {
  const failed = ended.filter((row) => !row.ok).length;
  say((failed ? `${failed} of ${ended.length} requests failed. ` : "") + sentence, failed > 0);
}

function span(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}
