// The Python stack of a running job, in a dialog.

import { ifFresh, request, returnFocus } from "./act.js";
import { copyButton } from "./copy.js";
import { $, put } from "./dom.js";
import { seconds, toSecond } from "./format.js";
import { beside } from "./live.js";

let shown = ""; // the id of the job

export function begin() {
  $("stack-again").addEventListener("click", ifFresh(look));
  $("stack-close").addEventListener("click", () => $("stack").close());
  $("stack-again").after(copyButton("the stack", () => $("stack-frames").textContent));
  returnFocus($("stack"));
}

export function showStack(job) {
  shown = job.job;
  put($("stack-title"), `Stack of ${job.task || job.route}`);
  put($("stack-frames"), "");
  $("stack").showModal();
  look();
}

async function look() {
  const job = shown;
  put($("stack-note"), "Asking…");
  let [note, frames] = ["", ""];
  try {
    const stack = await request(beside("status/stack", { job }));
    const isWhole = stack.complete ? "" : " Not all of it: the worker is stopped, or has just ended.";
    note = `At ${toSecond(Date.now() / 1000)}, after ${seconds(stack.seconds)}, in worker ${stack.worker}; the innermost first.${isWhole}`;
    frames = stack.stack.join("\n");
  } catch (error) {
    note = `✕ ${error.message}`;
    frames = $("stack-frames").textContent; // what was seen last
  }
  if (job !== shown) return;
  put($("stack-note"), note);
  put($("stack-frames"), frames);
}
