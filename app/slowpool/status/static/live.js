// The connection to status/live. The page judges itself how old its figures are: a server that hangs tells nothing.

const TICK_MS = 250;
const OLD_MS = 2000; // figures are sent each second
const GIVE_UP_MS = 3000; // then another instance is asked
const HANDSHAKE_MS = 2000;
const FIRST_MS = 5000; // an instance polls all others before it sends the first figures
const AGAIN_MS = 1000; // between two attempts to connect
const ASLEEP_MS = 5000; // timers that were silent for longer were stopped: the tab or the machine slept
const GOING_AWAY = 1001; // the close code of an instance that drains

let attempt = 0; // nginx sends each attempt to another instance, see upstream "status"

// A URL beside this page: nginx and an instance have it at different paths.
export function beside(path, values = {}) {
  const url = new URL(path, location);
  for (const [name, value] of Object.entries(values)) url.searchParams.set(name, value);
  if (attempt) url.searchParams.set("attempt", attempt);
  return url;
}

export class Live {
  #show;
  #say;
  #drained;
  #socket = null;
  #open = false;
  #connectAt = 0;
  #waitingSince = 0; // of the connection, for its handshake or its first figures
  #offset = null; // the least between this page's clock and that of this connection's figures
  #time = null; // of the newest figures, by the server's clock
  #madeAt = null; // the same by performance.now()
  #arrivedAt = 0; // by Date.now(), which goes on while the machine sleeps
  #tickedAt = Date.now();
  #calmUntil = performance.now() + OLD_MS; // no alarm while the page has just begun, woken up or gone on
  #paused = false;
  #failed = false; // to show the newest figures

  // show(content) gets figures; those for which it throws are not taken. say(state, age) gets "live", "connecting", "old" or
  // "paused", and the age in seconds, null without figures. drained() is called when the instance that sent them ends as
  // intended.
  constructor(show, say, drained) {
    [this.#show, this.#say, this.#drained] = [show, say, drained];
    setInterval(() => this.#tick(), TICK_MS);
    document.addEventListener("visibilitychange", () => this.#tick());
    this.#tick();
  }

  get paused() {
    return this.#paused;
  }

  set paused(value) {
    this.#paused = value;
    if (value) this.#drop();
    else this.#begin();
    this.#tick();
  }

  #begin() {
    this.#calmUntil = performance.now() + OLD_MS;
    this.#madeAt = null;
    this.#connectAt = 0;
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #connect() {
    const url = beside("status/live");
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#open = false;
    this.#offset = null;
    this.#waitingSince = performance.now();
    socket.onopen = () => {
      if (this.#socket !== socket) return;
      this.#open = true;
      this.#waitingSince = performance.now();
    };
    socket.onmessage = (event) => this.#socket === socket && this.#take(JSON.parse(event.data));
    socket.onclose = (event) => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#connectAt = this.#offset === null ? performance.now() + AGAIN_MS : 0;
      if (event.code === GOING_AWAY) this.#drained();
      else attempt += 1;
      this.#tick();
    };
  }

  #take(content) {
    if (content.time === this.#time) return; // it sends, but its figures stand still
    const now = performance.now();
    try {
      this.#show(content);
    } catch (error) {
      if (!this.#failed) console.error("the figures cannot be shown", error);
      this.#failed = true;
      return;
    }
    this.#failed = false;
    const made = content.time * 1000;
    this.#time = content.time;
    this.#offset = Math.min(now - made, this.#offset ?? Infinity);
    this.#madeAt = made + this.#offset; // later than now minus the way here, however long it was held up
    this.#arrivedAt = Date.now();
    this.#tick();
  }

  #tick() {
    const [now, clock] = [performance.now(), Date.now()];
    if (clock - Math.max(this.#tickedAt, this.#arrivedAt) > ASLEEP_MS) {
      this.#drop(); // what it still delivers is old
      this.#begin();
    }
    this.#tickedAt = clock;
    if (!this.#paused) this.#reconnect(now);
    this.#say(this.#state(now), this.#arrivedAt ? Math.max(now - (this.#madeAt ?? now), clock - this.#arrivedAt) / 1000 : null);
  }

  #reconnect(now) {
    const isLate = this.#offset !== null ? now - this.#madeAt > GIVE_UP_MS
      : now - this.#waitingSince > (this.#open ? FIRST_MS : HANDSHAKE_MS);
    if (this.#socket && isLate) {
      attempt += 1;
      this.#drop();
      this.#connectAt = 0;
    }
    if (!this.#socket && now >= this.#connectAt) this.#connect();
  }

  #state(now) {
    if (this.#paused) return "paused";
    const isFresh = this.#madeAt !== null && now - this.#madeAt <= OLD_MS;
    if (isFresh) return this.#socket && this.#offset !== null ? "live" : "connecting";
    return now < this.#calmUntil ? "connecting" : "old";
  }
}
