// The figures of both pools, over the last minute.

import { NO_LOSS, actButton } from "./act.js";
import { $, fill } from "./dom.js";
import { count, seconds, short } from "./format.js";

const POOLS = ["fast", "slow"];

const SHARED = [
  ["p50", (pool) => seconds(pool.p50_seconds)],
  ["p99", (pool) => seconds(pool.p99_seconds)],
  ["refused", (pool) => count(pool.refused)],
  ["failed", (pool) => count(pool.errors)],
];

// As many for both: the cards are equal, and no row has a gap.
const FIGURES = {
  fast: [
    ["active", (pool) => count(pool.active)],
    ["loop lag", (pool) => seconds(pool.lag_seconds)],
  ],
  slow: [
    ["running", (pool) => `${count(pool.running)} of ${count(pool.workers)}`],
    ["waiting", (pool) => `${count(pool.waiting)} of ${count(pool.places)}`],
  ],
};
for (const pool of POOLS) {
  FIGURES[pool] = [
    ["answering", (figures) => `${count(figures.answering)} of ${count(figures.instances)}`],
    ["requests/s", (figures) => short(figures.requests / 60)],
    ...FIGURES[pool],
    ...SHARED,
  ];
}

export function begin() {
  for (const pool of POOLS) {
    $(pool).querySelector(".head").append(actButton("roll", `roll the ${pool} pool`, () => ({
      title: `Roll the ${pool} pool?`,
      effect: `Its instances are drained and restarted one after the other, in every replica. Accepted and running work is `
        + `finished first. ${NO_LOSS}`,
      verb: "Roll it",
      body: { action: "roll", pool },
    })));
  }
}

export function drawPools(pools) {
  for (const pool of POOLS) fill($(pool).querySelector("dl"), FIGURES[pool], pools[pool]);
}
