// Sends slow and fast requests at the same time, and draws each as a bar on one axis of time.

import { $, LOST, problem, time } from "./shared.js";

const SLOW = 3;
const FAST = 20;
const LANES = 3; // of the 6 connections that a browser opens to a host, those that slow requests leave
const SPANS = [4, 6, 8, 12, 20, 40, 60, 80, 120]; // lengths of the axis, in seconds

const timeline = $("timeline");
const still = matchMedia("(prefers-reduced-motion: reduce)");

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = $("send");
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true"; // not .disabled, which would lose the focus
  button.textContent = "Waiting for answers…";
  try {
    await run($("route").value);
  } finally {
    button.ariaDisabled = "false";
    button.textContent = "Send 23 requests again";
  }
});

async function run(route) {
  $("slow-route").textContent = route;
  const slow = rows("slow", SLOW, (id) => `${route}?id=${id}&n=6000`);
  const fast = rows("fast", FAST, (id) => `/fast?id=${id}`);
  timeline.hidden = false;
  say(`Sent ${SLOW} slow requests and ${FAST} fast ones.`);

  await new Promise((resolve) => setTimeout(resolve, 50)); // drawing the rows is not in the figures

  const { elapsed, stop } = clock();
  const slowEnded = slow.map((row) => send(row, elapsed));
  const queue = fast.values(); // the lanes share it: each takes the next request when its last has ended
  const lanes = Array.from({ length: LANES }, async () => {
    for (const row of queue) await send(row, elapsed);
  });
  await Promise.all(lanes);
  if (slow.some((row) => row.to === undefined)) {
    say(`${lastFast(fast)}; slow requests are still running.`, fast);
  }
  await Promise.all(slowEnded);
  stop();
  const ends = slow.filter((row) => row.ok).map((row) => row.to);
  const slowText = ends.length
    ? `the first slow one after ${time(Math.min(...ends))}, the last after ${time(Math.max(...ends))}`
    : "no slow request was answered";
  say(`${lastFast(fast)}, ${slowText}.`, [...slow, ...fast]);
}

/** Sends the request of a row and shows how it ended. */
async function send(row, elapsed) {
  const from = elapsed();
  row.item.style.setProperty("--from", from);
  row.item.classList.add("waiting");
  let by, why;
  try {
    const response = await fetch(row.url, { cache: "no-store" });
    by = response.headers.get("X-Served-By");
    if (response.status === 200) await response.text();
    else why = await problem(response);
  } catch {
    why = LOST;
  }
  row.to = elapsed();
  row.ok = why === undefined;
  row.item.style.setProperty("--to", row.to);
  row.item.classList.replace("waiting", row.ok ? "answered" : "failed");
  row.item.append(span("ms", `${Math.round(row.to - from)} ms`), span("by", by));
  if (why) row.item.append(span("why", why));
}

/** Keeps the axis and the waiting bars going until `stop`. */
function clock() {
  const start = performance.now();
  const elapsed = () => performance.now() - start;
  let frame;
  let shown = -Infinity;
  const draw = () => {
    shown = elapsed();
    timeline.style.setProperty("--now", shown);
    axis(SPANS.find((seconds) => shown < seconds * 1000) ?? Math.ceil(shown / 1000));
  };
  const tick = () => {
    if (!still.matches || elapsed() - shown > 1000) draw();
    frame = requestAnimationFrame(tick);
  };
  const stop = () => {
    cancelAnimationFrame(frame);
    draw();
  };
  tick();
  return { elapsed, stop };
}

function axis(seconds) {
  const length = String(seconds * 1000);
  if (timeline.style.getPropertyValue("--span") === length) return;
  timeline.style.setProperty("--span", length);
  const ticks = [0, 1, 2, 3, 4].map((quarter) => span("", `${+((seconds * quarter) / 4).toFixed(1)} s`));
  timeline.querySelector(".ticks").replaceChildren(...ticks);
}

function rows(list, count, url) {
  const made = Array.from({ length: count }, (_, index) => {
    const item = document.createElement("li");
    const track = span("track", "");
    track.append(span("bar", ""));
    item.className = "row";
    item.append(span("id", index + 1), track);
    return { item, url: url(index + 1), ok: false, to: undefined };
  });
  $(list).replaceChildren(...made.map((row) => row.item));
  return made;
}

function lastFast(fast) {
  const ends = fast.filter((row) => row.ok).map((row) => row.to);
  return ends.length ? `The last fast answer came after ${time(Math.max(...ends))}` : "No fast request was answered";
}

/** Shows a sentence; a screen reader says it. Puts in front how many of the rows failed. */
function say(sentence, ended = []) {
  const failed = ended.filter((row) => !row.ok).length;
  $("summary").textContent = (failed ? `${failed} of ${ended.length} requests failed. ` : "") + sentence;
  $("summary").classList.toggle("failed", failed > 0);
}

function span(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}
