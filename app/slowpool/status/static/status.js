// Shows the figures that status/live sends each second.

import * as act from "./act.js";
import { advise, trust } from "./advice.js";
import { $, announce, put } from "./dom.js";
import * as edge from "./edge.js";
import * as events from "./events.js";
import { count, moment, seconds } from "./format.js";
import { History } from "./history.js";
import * as instances from "./instances.js";
import * as jobs from "./jobs.js";
import { Live } from "./live.js";
import { Plots } from "./plots.js";
import * as pools from "./pools.js";
import * as routes from "./routes.js";
import * as stack from "./stack.js";

const history = new History();
const plots = new Plots(history);
let newest = null; // the last that could be drawn
let newestRoutes = null; // these are sent only when they have changed
let state = "connecting";

for (const part of [act, stack, pools, instances, jobs, routes, edge]) part.begin();

function take(content) {
  newestRoutes = content.routes ?? newestRoutes;
  history.add(content);
  for (const part of [instances, jobs, events]) part.remember(content);
  draw(content);
  newest = content;
}

function draw(content) {
  if (document.hidden) return; // nobody sees it
  advise(hints(content));
  put($("served"), content.served_by ? `from ${content.served_by}` : "");
  pools.drawPools(content.pools);
  events.drawEvents();
  routes.drawRoutes(newestRoutes);
  instances.drawInstances(content.instances);
  jobs.drawJobs(content);
  plots.draw(); // last, since it needs a library that may not have come
}

const hints = (content) => [...content.hints, ...edge.hints()];

// age is that of the figures in seconds, null when there are none.
function say(next, age) {
  const old = age === null ? "no figures yet" : `${age < 60 ? `${count(age)} s` : seconds(age)} old`;
  const when = newest ? `, of ${moment(newest.time)}` : "";
  put($("connection"), {
    live: "● live",
    connecting: age === null || age < 1 ? "◌ connecting…" : `◌ ${old}, connecting…`,
    old: `✕ ${old}, connecting again…`,
    paused: `paused, ${old}`,
  }[next]);
  const title = `slowpool status`;
  const wrong = newest ? hints(newest).length : 0;
  const name = next === "old" ? `✕ old: ${title}` : `${wrong ? `(${wrong}) ` : ""}${title}`;
  if (document.title !== name) document.title = name;
  if (next === state) return;
  if (next === "old") announce(`No connection. The figures are old${when}.`);
  else if (state === "old" && next === "live") announce("The figures are live again.");
  state = next;
  document.body.dataset.state = next;
  $("connection").className = { live: "good", old: "bad" }[next] ?? "warn";
  act.allow(next === "live");
  trust(next !== "old" && next !== "paused");
}

const live = new Live(take, say, instances.forget);

$("pause").addEventListener("click", () => {
  live.paused = !live.paused;
  $("pause").ariaPressed = String(live.paused);
  put($("pause"), live.paused ? "Resume" : "Pause");
});
document.addEventListener("visibilitychange", () => newest && draw(newest));
