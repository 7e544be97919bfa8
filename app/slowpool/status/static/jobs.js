// Slow jobs: those that run, wait, or have failed, and how many are accepted.

import { actButton, freshButton } from "./act.js";
import { copyButton } from "./copy.js";
import { $, make, put } from "./dom.js";
import { bytes, count, moment, percent, seconds } from "./format.js";
import { showStack } from "./stack.js";
import { Table } from "./table.js";

const keyOf = (job) => `${job.instance?.address} ${job.instance?.name} ${job.job} ${job.request_id}`;
const REQUEST_ID = { title: "request id", className: "start code id", fill: requestId };
const ROUTE = { title: "route", className: "start route", text: (job) => job.route || "–" };
const INSTANCE = { title: "instance", className: "start code", text: (job) => job.instance.name };

const RUNNING = [
  { title: "task", text: (job) => `${job.task || "–"}${job.accepted ? " · accepted" : ""}` },
  ROUTE,
  { title: "progress", className: "start bar", fill: progress },
  { title: "age", className: "start bar age", fill: age },
  { title: "CPU time", text: (job) => seconds(job.cpu_seconds) },
  { title: "memory", text: (job) => bytes(job.resident_bytes) },
  { title: "worker", text: (job) => job.worker || "–" },
  INSTANCE,
  REQUEST_ID,
  { title: "action", className: "actions", fill: offerStackAndCancel },
];

const WAITING = [
  { title: "task", text: (job) => job.task || "–" },
  { title: "place", text: (job) => count(job.place) },
  { title: "age", text: (job) => seconds(job.age_seconds) },
  ROUTE,
  INSTANCE,
  REQUEST_ID,
  { title: "action", className: "actions", fill: offerCancel },
];

const FAILED = [
  { title: "task", text: (job) => job.task || "accepted job" },
  { title: "ended", className: "start", text: (job) => moment(job.ended) },
  { title: "outcome", className: "start", text: (job) => job.outcome ?? "failed" },
  { title: "last line of the traceback", className: "start long", text: (job) => job.error || "–" },
  ROUTE,
  REQUEST_ID,
];

const STATES = ["waiting", "running", "done", "failed", "cancelled"];

let tables;
let failures = []; // the server sends them only when they have changed

export function begin() {
  tables = {
    running: new Table($("jobs"), RUNNING, { keyOf, classOf: () => "slow", narrow: "78rem" }),
    waiting: new Table($("waiting"), WAITING, { keyOf, classOf: () => "slow" }),
    failed: new Table($("failed"), FAILED, { keyOf: (job) => `${job.job} ${job.ended}`, classOf: () => "slow bad" }),
  };
  const narrow = matchMedia("(max-width: 44rem)"); // there the running jobs follow the advice, for the keyboard too
  const place = () => (narrow.matches ? $("advice") : $("instances-section")).after($("jobs-section"));
  narrow.addEventListener("change", place);
  place();
}

export function remember(content) {
  failures = content.failures ?? failures;
}

export function drawJobs(content) {
  const all = (name) => content.instances.flatMap((instance) => (
    Array.isArray(instance[name]) ? instance[name].map((job) => ({ ...job, instance })) : []
  ));
  draw("running", all("running").sort((one, other) => other.age_seconds - one.age_seconds));
  draw("waiting", all("waiting_jobs").sort((one, other) => one.place - other.place || other.age_seconds - one.age_seconds));
  const ids = new Set(failures.map((job) => job.job));
  const failed = [...failures, ...(content.failed_jobs ?? []).filter((job) => !ids.has(job.job))];
  draw("failed", failed.sort((one, other) => other.ended - one.ended));
  $("no-jobs").hidden = !$("jobs").hidden;
  const accepted = content.pools.slow.accepted ?? {};
  const states = [...STATES, ...Object.keys(accepted).filter((state) => !STATES.includes(state))];
  const told = states.filter((state) => accepted[state]).map((state) => `${count(accepted[state])} ${state}`);
  $("accepted").hidden = told.length === 0;
  put($("accepted"), `Accepted jobs: ${told.join(", ")}.`);
}

// A hidden table is not touched until it has rows again.
function draw(name, rows) {
  const table = $({ running: "jobs", waiting: "waiting", failed: "failed" }[name]);
  const part = table.closest("[data-part]") ?? table;
  part.hidden = rows.length === 0;
  tables[name].draw(rows);
}

function progress(cell, job) {
  put(cell, [job.progress == null ? null : percent(job.progress), job.message].filter(Boolean).join(" · ") || "–");
  bar(cell, job.progress);
}

function age(cell, job) {
  const left = job.deadline_seconds;
  const all = left == null ? null : job.age_seconds + Math.max(0, left);
  put(cell, all === null ? seconds(job.age_seconds) : `${seconds(job.age_seconds)} of ${seconds(all)}`);
  bar(cell, all && job.age_seconds / all);
  cell.classList.toggle("late", all !== null && job.age_seconds > 0.8 * all);
}

function bar(cell, fraction) {
  const [done, all] = fraction == null ? ["0%", "0%"] : [`${Math.round(Math.min(1, fraction) * 1000) / 10}%`, "100%"];
  if (cell.dataset.done === `${done} ${all}`) return;
  cell.dataset.done = `${done} ${all}`;
  cell.style.setProperty("--done", done);
  cell.style.setProperty("--all", all);
}

function requestId(cell, job) {
  if (!job.request_id) return put(cell, "–");
  if (!cell.lastElementChild) {
    const text = make("span");
    cell.replaceChildren(text, copyButton("the request id", () => text.textContent));
  }
  put(cell.firstChild, job.request_id);
}

function offerStackAndCancel(cell, job) {
  if (cell.firstChild) return;
  cell.append(freshButton("stack", `stack of ${nameOf(job)}`, () => showStack(job)));
  offerCancel(cell, job);
}

function offerCancel(cell, job) {
  if (cell.lastChild?.textContent === "cancel") return;
  cell.append(actButton("cancel", `cancel ${nameOf(job)}`, () => ({
    title: `Cancel ${job.task || "the job"}?`,
    effect: effectOf(job),
    verb: "Cancel the job",
    body: { action: "cancel", job: job.job },
  })));
}

function effectOf(job) {
  const end = "place" in job ? "leaves the queue and does not run" : "ends at once, with all processes that its task has started";
  const client = job.accepted ? "Its client then finds it cancelled." : "A client that waits for the answer gets an error.";
  return `Job ${job.job} of ${job.route}, request ${job.request_id}, ${end}. ${client} This cannot be undone.`;
}

const nameOf = (job) => `${job.task || job.route}, job ${job.job}`;
