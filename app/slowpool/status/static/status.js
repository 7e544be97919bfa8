// Shows the figures that status/live sends each second.

import * as act from "./act.js";
import { advise } from "./advice.js";
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
let newest = null;
let newestRoutes = null; // these are sent only when they have changed
let state = "connecting";

for (const part of [act, stack, pools, instances, jobs, routes, edge]) part.begin();

function take(content) {
  newest = content;
  newestRoutes = content.routes ?? newestRoutes;
  history.add(content);
  for (const part of [instances, jobs, events]) part.remember(content);
  draw();
}

function draw() {
  if (document.hidden || !newest) return; // nobody sees it
  advise(newest.hints);
  put($("served"), newest.served_by ? `from ${newest.served_by}` : "");
  pools.drawPools(newest.pools);
  plots.draw();
  events.drawEvents();
  routes.drawRoutes(newestRoutes);
  instances.drawInstances(newest.instances);
  jobs.drawJobs(newest);
}

// age is that of the figures in seconds, null when there are none.
function say(next, age) {
  const old = age === null ? "no figures yet" : `${age < 60 ? `${count(age)} s` : seconds(age)} old`;
  const when = newest ? `, of ${moment(newest.time)}` : "";
  put($("connection"), {
    live: "● live",
    connecting: age === null || age < 1 ? "◌ connecting…" : `◌ ${old}, connecting…`,
    old: `✕ ${old}, connecting again…`,
    paused: "paused",
  }[next]);
  const title = `slowpool status`;
  const wrong = newest?.hints.length ? `(${newest.hints.length}) ` : "";
  const name = next === "old" ? `✕ old: ${title}` : `${wrong}${title}`;
  if (document.title !== name) document.title = name;
  if (next === state) return;
  if (next === "old") announce(`No connection. The figures are old${when}.`);
  else if (state === "old" && next === "live") announce("The figures are live again.");
  state = next;
  document.body.dataset.state = next;
  $("connection").className = { live: "good", old: "bad" }[next] ?? "warn";
  act.allow(next === "live");
}

const live = new Live(take, say, instances.forget);

$("pause").addEventListener("click", () => {
  live.paused = !live.paused;
  $("pause").ariaPressed = String(live.paused);
  put($("pause"), live.paused ? "Go on" : "Pause");
});
document.addEventListener("visibilitychange", draw);
