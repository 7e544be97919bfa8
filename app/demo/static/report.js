// One report, three ways to get it: answered, streamed, and accepted, where the answer is fetched later.

import { $, Refused, ask, problem, reason, time } from "./shared.js";

const N = 2000; // the work for each row
const AGAIN_MS = 2000; // until the next try when the events of a job cannot be had
const JOB = "accepted-report"; // in localStorage: the path of the newest job

/** One of the three ways on the page. */
class Way {
  constructor(id) {
    const part = (selector) => $(id).querySelector(selector);
    this.button = part("button");
    this.bar = part("progress");
    this.state = part("[role=status]");
    this.rows = part(".rows");
  }

  /** Does this work, unless some is being done; shows why it fails. */
  async run(work) {
    if (this.button.ariaDisabled === "true") return;
    this.button.ariaDisabled = "true"; // not .disabled, which would lose the focus
    this.show("");
    try {
      await work();
    } catch (error) {
      this.progress(0);
      this.fail(error);
    } finally {
      this.button.ariaDisabled = "false";
    }
  }

  /** From 0 to 1; null: nobody knows. */
  progress(fraction) {
    if (fraction === null) this.bar.removeAttribute("value");
    else this.bar.value = fraction;
  }

  /** Shows a sentence; a screen reader says it, once. */
  say(sentence, failed = false) {
    if (this.state.textContent !== sentence) this.state.textContent = sentence;
    this.state.classList.toggle("failed", failed);
  }

  fail(error) {
    this.say(reason(error), true);
  }

  show(rows) {
    this.rows.textContent = rows;
    this.rows.hidden = !rows;
    this.rows.scrollTop = this.rows.scrollHeight;
  }
}

const answered = new Way("answered");
const streamed = new Way("streamed");
const accepted = new Way("accepted");
const cancel = $("cancel");
let job = stored();
let key; // makes a second try, after a lost answer, the same job

$("size").addEventListener("submit", (event) => event.preventDefault());
answered.button.addEventListener("click", () => answered.run(answer));
streamed.button.addEventListener("click", () => streamed.run(stream));
accepted.button.addEventListener("click", () => accepted.run(accept));
cancel.addEventListener("click", () => {
  if (cancel.ariaDisabled !== "true") ask(job, { method: "DELETE" }).catch((error) => accepted.fail(error));
});
if (job) accepted.run(follow);

async function answer() {
  const start = performance.now();
  answered.say("Waiting for the answer…");
  answered.progress(null);
  const response = await ask(report());
  answered.show(await response.text());
  answered.progress(1);
  answered.say(`Answered after ${time(performance.now() - start)}.`);
}

async function stream() {
  const start = performance.now();
  const count = $("count").value;
  streamed.say("Waiting for the first row…");
  streamed.progress(null);
  const response = await ask(report("&stream=1"));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rows = "";
  let first;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    first ??= `First row after ${time(performance.now() - start)}`;
    streamed.say(`${first}…`);
    rows += part.value;
    streamed.show(rows);
    streamed.progress((rows.split("\n").length - 1) / count);
  }
  streamed.say(`${first}, last after ${time(performance.now() - start)}.`);
}

async function accept() {
  key ??= randomKey();
  accepted.say("Sending the request…");
  accepted.progress(null);
  const headers = { Prefer: "respond-async", "Idempotency-Key": key };
  const response = await fetch(report(), { cache: "no-store", headers });
  key = undefined;
  if (response.status !== 202) {
    throw new Refused(response.ok ? "The server answered instead of accepting it." : await problem(response));
  }
  keep(response.headers.get("Location"));
  await follow();
}

/** Shows what happens to the job until its end, and then its answer. */
async function follow() {
  accepted.say("Accepted.");
  cancel.ariaDisabled = "false";
  try {
    let last;
    while (!(last = await followEvents())) {
      accepted.say("No connection to the job’s events; trying again…");
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      await ask(job).catch((error) => {
        if (isGone(error)) throw error;
      });
    }
    if (last.state === "done") accepted.show(await (await ask(last.result)).text());
  } catch (error) {
    if (isGone(error)) keep(null);
    throw error;
  } finally {
    cancel.ariaDisabled = "true";
  }
}

/** Shows each change of the job. Resolves with its last state, or undefined when the server ends the events. */
function followEvents() {
  return new Promise((resolve) => {
    const events = new EventSource(`${job}/events`);
    let status;
    events.onmessage = ({ data }) => {
      status = JSON.parse(data);
      showStatus(status);
      if (["done", "failed", "cancelled"].includes(status.state)) {
        events.close();
        resolve(status);
      }
    };
    events.onopen = () => status && showStatus(status);
    events.onerror = () => {
      accepted.say("The connection was lost; connecting again…");
      // The browser connects again by itself, but not after an answer other than 200.
      if (events.readyState === EventSource.CLOSED) resolve(undefined);
    };
  });
}

function showStatus(status) {
  if (status.state === "running") accepted.progress(status.progress);
  else accepted.progress(status.state === "done" ? 1 : (status.progress ?? 0));
  $("message").textContent = status.state === "running" ? status.message : "";
  accepted.say(sentence(status), status.state === "failed");
}

function sentence({ state, ahead, starts_in_seconds: seconds, created, ended, error }) {
  if (state === "waiting") {
    const place = ahead ? `Waiting, ${ahead} before it` : "Waiting, next in the queue";
    return place + (seconds ? `; starts in about ${Math.ceil(seconds)}\u00a0s.` : ".");
  }
  if (state === "running") return "Running.";
  if (state === "done") return `Done, ${time(Date.parse(ended) - Date.parse(created))} after it was accepted.`;
  if (state === "failed") return `Failed: ${error}.`;
  return "Cancelled.";
}

function report(more = "") {
  return `/report/rows?rows=${$("count").value}&n=${N}${more}`;
}

function isGone(error) {
  return error.status === 404 || error.status === 410;
}

/** 128 random bits. crypto.randomUUID exists only over HTTPS and on localhost. */
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function stored() {
  try {
    return localStorage.getItem(JOB);
  } catch {
    return null; // this browser keeps nothing
  }
}

function keep(path) {
  job = path;
  try {
    if (path) localStorage.setItem(JOB, path);
    else localStorage.removeItem(JOB);
  } catch {
    // The job is then lost when the page is left.
  }
}
