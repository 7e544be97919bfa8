// The table of routes: the last minute of each, sorted by any column.

import { $ } from "./dom.js";
import { count, seconds, short } from "./format.js";
import { Table } from "./table.js";

const column = (title, name, show, className) => ({
  title, className, text: (route) => show(route[name]), sort: (route) => route[name],
});

const COLUMNS = [
  column("route", "route", String),
  column("pool", "pool", String, "start"),
  { title: "requests/s", text: (route) => short(route.requests / 60), sort: (route) => route.requests },
  column("failed", "errors", count),
  column("p50", "p50_seconds", seconds),
  column("p99", "p99_seconds", seconds),
  column("in queue", "queue_seconds", seconds),
  column("in worker", "run_seconds", seconds),
  column("handed over", "handed_over", count),
];

let table;
let drawn = null;

export function begin() {
  table = new Table($("routes"), COLUMNS, {
    keyOf: (route) => `${route.pool} ${route.route}`,
    classOf: (route) => `${route.pool}${route.errors ? " bad" : ""}`,
    sort: "p99",
  });
}

// routes is null while the server has sent none.
export function drawRoutes(routes) {
  $("routes-section").hidden = !routes;
  if (!routes || routes === drawn) return; // they come once in some seconds
  drawn = routes;
  $("routes").hidden = routes.length === 0;
  $("no-routes").hidden = routes.length > 0;
  table.draw(routes);
}
