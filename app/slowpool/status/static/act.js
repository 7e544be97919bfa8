// Actions: each is asked again in a dialog, which shows the answer. None is offered while the figures are old.

import { $, button, put } from "./dom.js";
import { beside } from "./live.js";

const TIMEOUT_MS = 60_000;
const HEADERS = { "X-Slowpool-Act": "1" }; // a page from elsewhere cannot send it

let isFresh = false; // the figures
let asked = null; // the action that the dialog names

export const isAllowed = () => isFresh;

export function allow(value) {
  isFresh = value;
  for (const element of document.querySelectorAll("button.act")) element.disabled = !value;
}

// action() gives {title, effect, verb, body} when it is pressed.
export function actButton(text, name, action) {
  const element = button(text, "small act", () => ask(action()));
  element.setAttribute("aria-label", name);
  element.disabled = !isFresh;
  return element;
}

export function begin() {
  $("act-no").addEventListener("click", () => $("act").close());
  $("act-yes").addEventListener("click", act);
  returnFocus($("act"));
}

// The browser gives the focus back to what has opened the dialog, unless an update has removed that.
export function returnFocus(dialog) {
  dialog.addEventListener("close", () => {
    const has = document.activeElement;
    if (!has || has === document.body || dialog.contains(has)) $("instances").focus();
  });
}

// The JSON of an answer. An Error has the detail of the problem, which says what to do.
export async function request(url, options = {}) {
  const headers = { ...HEADERS, ...(options.body && { "Content-Type": "application/json" }) };
  const answer = await fetch(url, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) })
    .catch((error) => { throw new Error(error.name === "TimeoutError" ? "no answer in time" : "no connection"); });
  const content = await answer.json().catch(() => ({}));
  if (answer.ok) return content;
  throw new Error(content.detail ?? `${answer.status} ${content.title ?? answer.statusText}`.trim());
}

function ask(action) {
  asked = action;
  put($("act-title"), action.title);
  put($("act-effect"), action.effect);
  put($("act-yes"), action.verb);
  put($("act-no"), "No, leave it");
  put($("act-answer"), "");
  $("act-answer").className = "";
  $("act-yes").hidden = false;
  $("act-yes").disabled = !isFresh;
  $("act").showModal();
  $("act-no").focus();
}

async function act() {
  const { body } = asked;
  $("act-yes").hidden = true;
  $("act-no").focus();
  put($("act-no"), "Close");
  put($("act-answer"), "Asking…");
  let [text, kind] = ["", "good"];
  try {
    ({ text = "Done." } = await request(beside("status/act"), { method: "POST", body: JSON.stringify(body) }));
  } catch (error) {
    [text, kind] = [`✕ ${error.message}`, "bad"];
  }
  if (asked.body !== body) return; // closed, and something else is asked
  put($("act-answer"), text);
  $("act-answer").className = kind;
}
