// What has happened: the newest hundred events, which outlive the instance that has told them.

import { $, make, put } from "./dom.js";
import { moment } from "./format.js";

const MOST = 100;
const BAD = new Set(["hang", "exit", "memory", "full"]);
const WARN = new Set(["settings", "learned"]);

let events = new Map(); // by id

export function remember(content) {
  if (!content.events) return;
  for (const event of content.events) events.set(event.id, event);
  const newest = [...events.values()].sort((one, other) => other.at - one.at).slice(0, MOST);
  events = new Map(newest.map((event) => [event.id, event]));
}

export function drawEvents() {
  $("events-section").hidden = events.size === 0;
  const list = $("events");
  const old = new Map([...list.children].map((item) => [item.dataset.id, item]));
  [...events.values()].forEach((event, index) => {
    const item = old.get(String(event.id)) ?? write(event);
    old.delete(String(event.id));
    put(item.querySelector("time"), moment(event.at)); // with its day, from the next one on
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
  });
  for (const item of old.values()) item.remove();
}

function write(event) {
  const kind = BAD.has(event.kind) ? "bad" : WARN.has(event.kind) ? "warn" : "";
  const item = make("li", kind);
  item.dataset.id = event.id;
  const time = make("time");
  time.dateTime = new Date(event.at * 1000).toISOString();
  const mark = { bad: "✕ ", warn: "! " }[kind] ?? "";
  item.append(time, make("b", "", `${mark}${event.kind}`), make("code", "", event.instance), make("span", "", event.text));
  return item;
}
