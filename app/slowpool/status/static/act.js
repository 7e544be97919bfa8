// Actions: each is asked again in a dialog, which shows the answer. None is offered while the figures are old.

import { $, button, put } from "./dom.js";
import { beside } from "./live.js";

const TIMEOUT_MS = 60_000;
const HEADERS = { "X-Slowpool-Act": "1" }; // a page from elsewhere cannot send it

export const NO_LOSS = "No request is lost while the pool has another ready instance; a pool of one answers 503 until it is "
  + "back.";

let isFresh = false; // the figures
let asked = null; // the action that the dialog names

export function allow(value) {
  isFresh = value;
  document.querySelectorAll("button.act").forEach(mark);
}

// What a button of the class "act" does, unless the figures are old. It is not .disabled, which would lose the focus.
export const ifFresh = (act) => () => isFresh && act();

// name is for a screen reader.
export function freshButton(text, name, act) {
  const element = button(text, "small act", ifFresh(act));
  element.setAttribute("aria-label", name);
  mark(element);
  return element;
}

// action() gives {title, effect, verb, body} when it is pressed.
export const actButton = (text, name, action) => freshButton(text, name, () => ask(action()));

export function begin() {
  $("act-no").addEventListener("click", () => $("act").close());
  $("act-yes").addEventListener("click", ifFresh(act));
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

const mark = (element) => element.setAttribute("aria-disabled", String(!isFresh));

function ask(action) {
  asked = action;
  put($("act-title"), action.title);
  put($("act-effect"), action.effect);
  put($("act-yes"), action.verb);
  put($("act-no"), "No, leave it");
  put($("act-answer"), "");
  $("act-answer").className = "";
  $("act-yes").hidden = false;
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
