// The plots: one line for each series over the steps of the history.

import { $, make, put } from "./dom.js";
import { count, seconds, short, toMinute, toSecond } from "./format.js";

const HEIGHT = 170;
const FEW = 40; // steps that are drawn as points too
const LEAST_SECONDS = 60;
const DASHED = [4, 4];
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]; // between the lines of an axis of counts
const SECONDS = [5, 10, 15, 30, 60, 120, 180, 300]; // the same of the time
const KEYS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -12, PageDown: 12, Home: -Infinity, End: Infinity };

const PLOTS = [
  ["Requests per second", short, [
    ["fast", "--fast", [], (fast, _, length) => fast && fast.requests / length],
    ["slow", "--slow", DASHED, (_, slow, length) => slow && slow.requests / length],
  ]],
  ["Time to the answer, fast pool", seconds, [
    ["p50", "--fast", [], (fast) => fast?.p50_seconds],
    ["p99", "--fast", DASHED, (fast) => fast?.p99_seconds],
  ]],
  ["Time to the answer, slow pool", seconds, [
    ["p50", "--slow", [], (_, slow) => slow?.p50_seconds],
    ["p99", "--slow", DASHED, (_, slow) => slow?.p99_seconds],
  ]],
  ["Slow jobs", count, [
    ["running", "--slow", [], (_, slow) => slow?.running],
    ["waiting", "--slow", DASHED, (_, slow) => slow?.waiting],
  ]],
  ["Refused and failed per second", short, [
    ["refused", "--warn", [], (fast, slow, length) => ((fast?.refused ?? 0) + (slow?.refused ?? 0)) / length],
    ["failed", "--bad", DASHED, (fast, slow, length) => ((fast?.errors ?? 0) + (slow?.errors ?? 0)) / length],
  ]],
  ["Longest event loop lag", seconds, [
    ["fast", "--fast", [], (fast) => fast?.lag_seconds],
    ["slow", "--slow", DASHED, (_, slow) => slow?.lag_seconds],
  ]],
];

export class Plots {
  #history;
  #plots;
  #chosen = null; // the number of the step that is read by keyboard
  #drawn = -1; // changes of the history

  constructor(history) {
    this.#history = history;
    this.#plots = PLOTS.map(([title, unit, series]) => this.#frame({ title, unit, series, lines: null, plot: null }));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#plots.forEach((one) => this.#create(one)));
    new ResizeObserver(() => this.#plots.forEach((one) => one.plot?.setSize({ width: one.canvas.clientWidth, height: HEIGHT })))
      .observe($("plots"));
  }

  draw() {
    if (this.#drawn === this.#history.changes) return;
    const numbers = this.#history.numbers();
    const { length } = this.#history;
    const span = numbers.length * length;
    put($("plots-title"), span < LEAST_SECONDS ? "The last minute" : `The last ${short(Math.round(span / 60))} min`);
    for (const one of this.#plots) {
      const lines = one.series.map(([, , , value]) => numbers.map((number) => {
        const [fast, slow] = [this.#history.step("fast", number), this.#history.step("slow", number)];
        return fast || slow ? value(fast, slow, length) ?? null : null;
      }));
      one.lines = [numbers.map((number) => number * length), ...lines];
      if (one.plot) one.plot.setData(one.lines);
      else this.#create(one);
      this.#read(one);
    }
    this.#drawn = this.#history.changes; // not when a plot cannot be drawn
    if (this.#chosen !== null) this.#choose(this.#chosen);
  }

  #frame(one) {
    const figure = make("figure");
    const caption = make("figcaption");
    const head = make("div", "head");
    one.at = make("span", "note");
    head.append(make("span", "", one.title), one.at);
    const legend = make("div", "legend");
    one.marks = one.series.map(([, color, dash]) => {
      const entry = make("span");
      const line = make("i");
      line.style.borderColor = `var(${color})`;
      line.classList.toggle("dashed", dash.length > 0);
      entry.append(line, make("span"));
      legend.append(entry);
      return entry.lastChild;
    });
    one.canvas = make("div", "plot");
    one.canvas.tabIndex = 0;
    one.canvas.setAttribute("role", "slider"); // its values are read step by step
    one.canvas.setAttribute("aria-label", one.title);
    one.canvas.addEventListener("keydown", (event) => this.#step(event));
    one.canvas.addEventListener("focus", () => one.canvas.matches(":focus-visible") && this.#choose(Infinity));
    one.canvas.addEventListener("blur", () => this.#choose(null));
    caption.append(head, legend);
    figure.append(caption, one.canvas);
    $("plots").append(figure);
    return one;
  }

  #create(one) {
    if (!one.lines) return;
    one.plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: color("--muted"), font: "12px system-ui, sans-serif", grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    const points = {
      size: 5,
      show: (plot) => plot.data[0].length <= FEW,
      filter: (plot, series, isShown) => (isShown ? null : alone(plot.data[series])),
    };
    one.plot = new uPlot({
      width: one.canvas.clientWidth || 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "steps" }, points: { size: 8 } },
      scales: {
        x: { range: ({ data: [times] }) => [Math.min(times[0], times.at(-1) - LEAST_SECONDS), times.at(-1)] },
        y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] },
      },
      axes: [
        { ...axis, space: 60, incrs: SECONDS, size: 28, values: (_, times, __, ___, gap) => times.map(gap < 60 ? toSecond : toMinute) },
        { ...axis, size: 64, values: (_, values) => values.map(one.unit), ...(one.unit === count && { incrs: WHOLE }) },
      ],
      series: [{}, ...one.series.map(([label, stroke, dash]) => ({ label, stroke: color(stroke), dash, width: 2, points }))],
      hooks: { setCursor: [() => this.#read(one)] },
    }, one.lines, one.canvas);
  }

  // Shows the values under the cursor, or the newest ones.
  #read(one) {
    const index = one.plot?.cursor.idx ?? null;
    const [times, ...lines] = one.lines;
    const place = index ?? times.length - 1;
    const values = one.series.map(([name], line) => `${name} ${lines[line][place] == null ? "–" : one.unit(lines[line][place])}`);
    values.forEach((text, line) => put(one.marks[line], text));
    const when = index === null ? "now" : toSecond(times[place]);
    put(one.at, index === null ? "" : when);
    if (index === null && one.canvas === document.activeElement) return; // a screen reader would read each change
    const attributes = { valuemin: times[0], valuemax: times.at(-1), valuenow: times[place], valuetext: `${when}: ${values.join(", ")}` };
    for (const [name, value] of Object.entries(attributes)) one.canvas.setAttribute(`aria-${name}`, value);
  }

  #step(event) {
    if (event.key === "Escape") this.#choose(null);
    if (!(event.key in KEYS)) return;
    event.preventDefault();
    this.#choose((this.#chosen ?? this.#history.last - 1) + KEYS[event.key]);
  }

  #choose(number) {
    const numbers = this.#history.numbers();
    this.#chosen = number === null ? null : Math.max(numbers[0], Math.min(numbers.at(-1), number));
    for (const { plot } of this.#plots) {
      if (!plot) continue;
      const left = this.#chosen === null ? -10 : plot.valToPos(this.#chosen * this.#history.length, "x");
      plot.setCursor({ left, top: left < 0 ? -10 : HEIGHT / 4 }, true, false);
    }
  }
}

// The places of values without a neighbour, of which no line is drawn.
function alone(values) {
  const places = values.flatMap((value, place) => (
    value != null && values[place - 1] == null && values[place + 1] == null ? [place] : []
  ));
  return places.length ? places : null;
}
