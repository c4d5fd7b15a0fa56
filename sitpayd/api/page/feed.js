// The live feed: a WebSocket that comes back by itself and never passes off old news as new.
//
// It is live only between a first message and the last one that came in time. Every attempt takes
// a fresh one-time ticket and asks for what was missed since the cursor; where the daemon cannot
// tell that any more, it sends a new snapshot.

import { setClock } from "./words.js";

// The daemon says something every 10 s at least. Two missed, and a little for the way.
const SILENCE_MS = 22_000;
const LOOK_EVERY_MS = 500;
// What a heartbeat's way here takes at most, as a rule.
const HEARTBEAT_COARSE_MS = 250;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;
// A retry never waits less: a daemon that refuses at once must not be asked in a loop.
const LEAST_RETRY_MS = 300;

export class Feed {
  #client;
  #listener;
  #socket = null;
  #cursor = null;
  // The devices of a snapshot that is still coming.
  #parts = [];
  #heardAt = null;
  #attemptAt = 0;
  #failures = 0;
  #retryAt = null;
  #live = false;
  #watch = 0;
  // Counts attempts: what an older one still says is not listened to.
  #attempt = 0;

  /**
   * `listener`: snapshot(devices), status(device), removed(id), live(), lost(), refused(refusal).
   */
  constructor(client, listener) {
    this.#client = client;
    this.#listener = listener;
  }

  /** Whether what is shown is how things are. */
  get live() {
    return this.#live;
  }

  /** When the daemon was heard last, milliseconds of this machine's clock; null: never. */
  get heardAt() {
    return this.#heardAt;
  }

  /** When it is tried again; null: it is being tried. */
  get retryAt() {
    return this.#retryAt;
  }

  /** `ticket`: one that was got to try the key; it is worth as much as a new one. */
  start(ticket) {
    this.#watch = setInterval(() => this.#look(), LOOK_EVERY_MS);
    // A lid that opens, a network that comes back: nobody wants to sit out a backoff then.
    addEventListener("online", this.retry);
    document.addEventListener("visibilitychange", this.#seen);
    void this.#connect(ticket);
  }

  stop() {
    clearInterval(this.#watch);
    removeEventListener("online", this.retry);
    document.removeEventListener("visibilitychange", this.#seen);
    this.#drop();
    this.#live = false;
  }

  /** Try now instead of later. */
  retry = () => {
    this.#look();
    if (this.#retryAt !== null) {
      void this.#connect();
    }
  };

  #seen = () => {
    if (document.visibilityState === "visible") {
      this.retry();
    }
  };

  async #connect(ticket = null) {
    this.#drop();
    this.#retryAt = null;
    this.#attemptAt = Date.now();
    const attempt = this.#attempt;
    try {
      ticket ??= await this.#client.ticket();
    } catch (refusal) {
      if (attempt === this.#attempt) {
        this.#fail();
        this.#listener.refused(refusal);
      }
      return;
    }
    if (attempt !== this.#attempt) {
      return;
    }
    const query = new URLSearchParams({ ticket });
    if (this.#cursor !== null) {
      query.set("after", this.#cursor);
    }
    const url = new URL(`feed?${query}`, document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.#socket = new WebSocket(url));
    socket.addEventListener("message", (event) => {
      if (attempt === this.#attempt) {
        this.#take(JSON.parse(event.data));
      }
    });
    socket.addEventListener("close", () => {
      if (attempt === this.#attempt) {
        this.#fail();
      }
    });
  }

  #take(told) {
    this.#heardAt = Date.now();
    // A snapshot has its cursor in its last part: what came before is not known until then.
    if (told.cursor) {
      this.#cursor = told.cursor;
    }
    switch (told.type) {
      case "snapshot":
        this.#parts = [];
      // falls through: it may be whole
      case "more":
        this.#parts.push(...told.devices);
        if (!told.more) {
          this.#listener.snapshot(this.#parts);
          this.#parts = [];
          this.#greeted();
        }
        break;
      case "resumed":
        this.#greeted();
        break;
      case "status":
        this.#listener.status(told.device);
        break;
      case "removed":
      case "left":
        this.#listener.removed(told.session_id);
        break;
      case "heartbeat":
        setClock(told.at, HEARTBEAT_COARSE_MS);
        break;
      case "resync":
        // Changes were left out; a snapshot of now follows.
        break;
      default:
        // A newer daemon may say more.
        break;
    }
  }

  #greeted() {
    this.#failures = 0;
    this.#live = true;
    this.#listener.live();
  }

  #look() {
    if (this.#retryAt !== null) {
      if (Date.now() >= this.#retryAt) {
        void this.#connect();
      }
      return;
    }
    const heard = Math.max(this.#attemptAt, this.#heardAt ?? 0);
    if (Date.now() - heard > SILENCE_MS) {
      this.#fail();
    }
  }

  #fail() {
    this.#drop();
    const most = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures);
    this.#failures += 1;
    // Full jitter: a hundred pages must not come back in one moment.
    this.#retryAt = Date.now() + LEAST_RETRY_MS + Math.random() * most;
    this.#live = false;
    this.#listener.lost();
  }

  #drop() {
    this.#attempt += 1;
    this.#socket?.close();
    this.#socket = null;
  }
}
