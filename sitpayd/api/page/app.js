// The admin page: signs in, listens, and passes on. What is shown where is told by table.js,
// strip.js and drawer.js; what is known, by fleet.js.

import { Client } from "./client.js";
import { words } from "./commands.js";
import { byId, mark, say, write } from "./dom.js";
import { Drawer } from "./drawer.js";
import { Feed } from "./feed.js";
import { Fleet } from "./fleet.js";
import { Strip } from "./strip.js";
import { Table } from "./table.js";
import { themeSwitch } from "./themes.js";
import { count, duration, timeOfDay } from "./words.js";

const TICK_MS = 1_000;
const ARRANGE_EVERY_MS = 1_000;
const PROOFS_EVERY_MS = 10_000;
// After scrolling: the rows that came into view.
const PROOFS_AFTER_MS = 400;
const MAX_PROOFS = 200;
const SAY_AFTER_MS = 600;
const NARROW = matchMedia("(max-width: 760px)");

/** Everything behind the door, for one key. */
class House {
  #client;
  #fleet = new Fleet();
  #feed;
  #table;
  #strip;
  #drawer;
  #leave;
  #known = false;
  #painting = false;
  #arrangedAt = 0;
  #askedAt = 0;
  #soon = 0;
  #saying = 0;
  #timers = [];
  #listening = new AbortController();

  /** `leave(problem)`: the key is not, or no longer, good. */
  constructor(client, leave) {
    this.#client = client;
    this.#leave = leave;
    this.#table = new Table(this.#fleet, this.#listening.signal, {
      onOpen: (id) => this.#open(id),
      onSort: (sort) => this.#ask(() => this.#fleet.sortBy(sort)),
      onScroll: () => this.#proofsSoon(),
    });
    this.#strip = new Strip(this.#fleet, (status) => this.#ask(() => this.#fleet.filter(status)));
    this.#drawer = new Drawer(byId("drawer"), client, this.#fleet, { onClose: () => this.#open(null) });
    this.#feed = new Feed(client, {
      snapshot: (devices) => this.#fleet.replace(devices),
      status: (device) => {
        this.#fleet.put(device);
        this.#paintSoon();
      },
      removed: (id) => {
        this.#fleet.remove(id);
        this.#paintSoon();
      },
      live: () => this.#live(),
      lost: () => this.#lost(),
      refused: (refusal) => this.#refused(refusal),
    });
  }

  start(ticket) {
    const { signal } = this.#listening;
    const on = (target, event, listener) => target.addEventListener(event, listener, { signal });
    on(byId("search"), "input", () => this.#ask(() => this.#fleet.search(byId("search").value)));
    on(byId("search"), "keydown", (event) => this.#searchKey(event));
    on(document, "keydown", (event) => this.#key(event));
    on(window, "hashchange", () => this.#follow());
    on(byId("release"), "click", () => {
      this.#table.release();
      this.#paint();
    });
    on(byId("lost-now"), "click", () => this.#feed.retry());
    on(NARROW, "change", () => this.#cover());
    this.#timers.push(setInterval(() => this.#tick(), TICK_MS));
    this.#state("connecting", "Connecting");
    this.#feed.start(ticket);
  }

  stop() {
    this.#feed.stop();
    this.#listening.abort();
    this.#timers.forEach(clearInterval);
    clearTimeout(this.#soon);
    clearTimeout(this.#saying);
    this.#drawer.close();
  }

  /** Forget the key and everything that was shown: the page begins anew. */
  signOut() {
    this.stop();
    this.#client.forget();
    history.replaceState(null, "", location.pathname);
    location.reload();
  }

  // --- the feed ---

  #live() {
    byId("lost").hidden = true;
    document.body.classList.remove("stale");
    this.#state("live", "Live");
    this.#known = true;
    this.#fleet.arrange();
    this.#paint();
    this.#follow();
    this.#proofsSoon();
  }

  #lost() {
    document.body.classList.add("stale");
    byId("lost").hidden = false;
    this.#state("lost", "Not live");
    const { heardAt } = this.#feed;
    if (heardAt === null) {
      write(byId("lost-what"), "The live feed cannot be opened.");
      // A browser does not tell a page why. These two are what it mostly is.
      write(
        byId("lost-seen"),
        "If it stays so: open this page at the address in the setting base_url, and let the proxy in front of the daemon pass WebSockets.",
      );
    } else {
      write(byId("lost-what"), `Live feed lost since ${timeOfDay(heardAt)}.`);
      write(byId("lost-seen"), "What you see is how it was then.");
    }
    this.#paint();
    this.#tick();
  }

  #refused(refusal) {
    if (refusal.isAboutKey) {
      this.#leave(refusal);
    } else if (this.#feed.heardAt === null) {
      write(byId("lost-seen"), words(refusal));
    }
  }

  #state(state, text) {
    byId("link").dataset.state = state;
    write(byId("link").lastElementChild, text);
  }

  // --- what is shown ---

  #paintSoon() {
    if (!this.#painting) {
      this.#painting = true;
      requestAnimationFrame(() => {
        this.#painting = false;
        this.#paint();
      });
    }
  }

  #paint() {
    const due = Date.now() - this.#arrangedAt >= ARRANGE_EVERY_MS;
    if (this.#fleet.dirty && due && !this.#table.held) {
      this.#fleet.arrange();
      this.#arrangedAt = Date.now();
    }
    byId("release").hidden = !(this.#fleet.dirty && this.#table.held);
    this.#strip.paint();
    this.#table.render();
    this.#drawer.update();
    this.#caption();
  }

  #caption() {
    const { order, size } = this.#fleet;
    write(
      byId("shown"),
      !this.#known
        ? "Waiting for the list of devices …"
        : order.length === size
          ? `${count(size)} ${size === 1 ? "device" : "devices"}`
          : `${count(order.length)} of ${count(size)} devices`,
    );
    const { live, heardAt } = this.#feed;
    write(byId("as-of"), live || heardAt === null ? "" : `as of ${timeOfDay(heardAt)}, not now`);
    const nothing = byId("nothing");
    nothing.hidden = !this.#known || order.length > 0;
    write(nothing, size === 0 ? "There are no devices yet." : "No device fits. Esc in the search field clears it.");
    const trouble = this.#strip.trouble;
    document.title = live
      ? `${trouble > 0 ? `(${count(trouble)}) ` : ""}sitpayd`
      : "Not live · sitpayd";
  }

  #ask(change) {
    change();
    this.#arrangedAt = Date.now();
    this.#table.top();
    this.#paint();
    this.#proofsSoon();
    clearTimeout(this.#saying);
    this.#saying = setTimeout(() => say(`${byId("shown").textContent} shown`), SAY_AFTER_MS);
  }

  #tick() {
    if (this.#fleet.dirty) {
      this.#paint();
    }
    this.#table.tick();
    this.#drawer.tick();
    const { retryAt } = this.#feed;
    write(
      byId("lost-next"),
      retryAt === null ? "Trying now …" : `Trying again in ${duration(Math.ceil((retryAt - Date.now()) / 1000))}.`,
    );
    if (Date.now() - this.#askedAt >= PROOFS_EVERY_MS) {
      void this.#proofs();
    }
  }

  // --- proofs of life: too many for the feed, so they are asked for what is in view ---

  #proofsSoon() {
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => void this.#proofs(), PROOFS_AFTER_MS);
  }

  async #proofs() {
    const open = this.#drawer.id;
    const ids = [...new Set([...(open === null ? [] : [open]), ...this.#table.visible])].slice(0, MAX_PROOFS);
    if (!this.#feed.live || document.hidden || ids.length === 0) {
      return;
    }
    this.#askedAt = Date.now();
    const { version } = this.#fleet;
    try {
      this.#fleet.refresh(await this.#client.devices(ids), version);
      this.#paint();
    } catch (refusal) {
      // The ages go on growing, which is the truth; the feed tells whether the daemon is gone.
      if (refusal.isAboutKey) {
        this.#leave(refusal);
      }
    }
  }

  // --- the drawer: the address names its device, so that a link and the back button work ---

  #open(id) {
    const hash = id === null ? "" : `#${encodeURIComponent(id)}`;
    if (location.hash !== hash) {
      history.pushState(null, "", hash || location.pathname);
    }
    this.#follow();
  }

  #follow() {
    const id = decoded(location.hash.slice(1));
    if (id !== "" && id !== this.#drawer.id && this.#known) {
      this.#table.markOpen(id);
      this.#drawer.open(id);
    } else if (id === "" && this.#drawer.id !== null) {
      this.#drawer.close();
      this.#table.markOpen(null);
      this.#cover();
      this.#table.focus();
    }
    this.#cover();
  }

  /** On a phone the drawer covers the list: what is covered cannot be reached. */
  #cover() {
    const open = this.#drawer.id !== null;
    document.body.classList.toggle("open", open);
    byId("list").inert = open && NARROW.matches;
  }

  // --- keys ---

  #key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || byId("ask").open) {
      return;
    }
    const writing = event.target instanceof HTMLInputElement;
    if (event.key === "/" && !writing && !byId("list").inert) {
      event.preventDefault();
      byId("search").select();
    } else if (event.key === "Escape" && this.#drawer.id !== null) {
      event.preventDefault();
      this.#open(null);
    } else if (event.key === "ArrowDown" && event.target === document.body) {
      event.preventDefault();
      this.#table.enter();
    }
  }

  #searchKey(event) {
    const search = byId("search");
    if (event.key === "ArrowDown") {
      event.preventDefault();
      this.#table.enter();
    } else if (event.key === "Enter") {
      event.preventDefault();
      this.#table.openFirst();
    } else if (event.key === "Escape" && search.value !== "") {
      event.preventDefault();
      search.value = "";
      this.#ask(() => this.#fleet.search(""));
    } else if (event.key === "Escape" && this.#drawer.id === null) {
      event.preventDefault();
      search.blur();
    }
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

// --- the door ---

const PROBLEMS = {
  no_admin_key: "This daemon has no admin key, so nobody can sign in. Its operator sets admin_key and starts it again.",
  unauthorized: "This is not the admin key.",
};

let house = null;

function enter(client, ticket = null) {
  byId("door").hidden = true;
  byId("house").hidden = false;
  house = new House(client, (refusal) => {
    client.forget();
    leave(PROBLEMS[refusal.code] ?? refusal.message);
  });
  house.start(ticket);
}

function leave(problem = "") {
  house?.stop();
  house = null;
  document.body.classList.remove("stale", "open");
  document.title = "sitpayd";
  byId("house").hidden = true;
  byId("door").hidden = false;
  byId("door-problem").textContent = problem;
  byId("key").focus();
}

byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = byId("key");
  const problem = byId("door-problem");
  const client = new Client(key.value.trim());
  const button = event.target.querySelector("button");
  button.disabled = true;
  problem.textContent = "";
  mark(key, "aria-invalid", null);
  try {
    const ticket = await client.ticket();
    if (byId("keep").checked) {
      client.keep();
    }
    key.value = "";
    enter(client, ticket);
  } catch (refusal) {
    problem.textContent = PROBLEMS[refusal.code] ?? words(refusal);
    mark(key, "aria-invalid", refusal.isAboutKey ? "true" : null);
    key.select();
  } finally {
    button.disabled = false;
  }
});
byId("sign-out").addEventListener("click", () => {
  house?.signOut();
});

themeSwitch(byId("theme"));
const kept = Client.kept();
if (kept === null) {
  leave();
} else {
  enter(kept);
}
