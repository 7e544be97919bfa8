// The steps of the last ten minutes. They outlive the instance that sent them, and a reload of the tab.

const STEPS = 120;
const KEY = "slowpool steps";
const POOLS = ["fast", "slow"];

export class History {
  length = 5; // seconds of a step
  last = 0; // the number of the step that has just begun
  changes = 0; // of whole steps
  #steps = Object.fromEntries(POOLS.map((pool) => [pool, new Map()]));

  constructor() {
    this.#restore();
    addEventListener("pagehide", () => this.#keep());
    document.addEventListener("visibilitychange", () => document.hidden && this.#keep());
  }

  add(content) {
    this.length = content.step_seconds;
    const last = Math.floor(content.time / this.length);
    if (last !== this.last) this.changes += 1;
    this.last = last;
    for (const pool of POOLS) {
      for (const [number, step] of Object.entries(content.steps?.[pool] ?? {})) this.#merge(pool, Number(number), step);
      for (const number of this.#steps[pool].keys()) {
        if (number <= this.last - STEPS || number > this.last) this.#steps[pool].delete(number);
      }
    }
  }

  // The numbers of the steps from the first that is known to the last whole one.
  numbers() {
    const first = Math.min(this.last - 1, ...POOLS.flatMap((pool) => [...this.#steps[pool].keys()]));
    return Array.from({ length: this.last - first }, (_, index) => first + index);
  }

  step(pool, number) {
    return this.#steps[pool].get(number);
  }

  // A server that has begun later knows less of a step: its figures do not replace better ones.
  #merge(pool, number, step) {
    const known = this.#steps[pool].get(number);
    const grows = number >= this.last - 1;
    if (known && (step.requests < known.requests || (step.requests === known.requests && !grows))) return;
    this.#steps[pool].set(number, step);
    const differs = !known || Object.keys(step).some((name) => step[name] !== known[name]);
    if (number < this.last && differs) this.changes += 1;
  }

  #keep() {
    try {
      sessionStorage.setItem(KEY, JSON.stringify(POOLS.map((pool) => [...this.#steps[pool]])));
    } catch {
      // full or forbidden: then they end with the page
    }
  }

  #restore() {
    try {
      JSON.parse(sessionStorage.getItem(KEY))?.forEach((kept, index) => {
        this.#steps[POOLS[index]] = new Map(kept.slice(-STEPS).filter(([number, step]) => number > 0 && step.requests >= 0));
      });
    } catch {
      // not ours
    }
  }
}
