// The strip: how many devices are in each state, and the filter by it.

import { byId, make, mark, write } from "./dom.js";
import { TROUBLE } from "./fleet.js";
import { STATUSES, count, plain, toneOf } from "./words.js";

// These come first, and stand there also with nothing in them: a nought is good to see.
const ALWAYS = [null, TROUBLE, "waiting", "connected"];

export class Strip {
  #fleet;
  #onFilter;
  #chips = new Map();
  #bars = new Map();

  /** Devices that need a person, as of the last painting. */
  trouble = 0;

  /** `onFilter(status)`: show only these; null: all. */
  constructor(fleet, onFilter) {
    this.#fleet = fleet;
    this.#onFilter = onFilter;
    byId("strip").replaceChildren();
    byId("share").replaceChildren();
    for (const status of new Set([...ALWAYS, ...Object.keys(STATUSES)])) {
      this.#chip(status);
    }
    for (const tone of ["bad", "warn", "busy", "idle", "good"]) {
      this.#bars.set(tone, make("i", { "data-tone": tone }));
    }
    byId("share").append(...this.#bars.values());
  }

  /** Write down the counts. */
  paint() {
    const counts = this.#fleet.counts();
    for (const status of counts.keys()) {
      if (!this.#chips.has(status)) {
        this.#chip(status);
      }
    }
    const tones = new Map();
    for (const [status, number] of counts) {
      tones.set(toneOf(status), (tones.get(toneOf(status)) ?? 0) + number);
    }
    this.trouble = tones.get("bad") ?? 0;
    for (const [status, { element, number }] of this.#chips) {
      const value =
        status === null ? this.#fleet.size : status === TROUBLE ? this.trouble : (counts.get(status) ?? 0);
      write(number, count(value));
      const chosen = this.#fleet.status === status;
      mark(element, "aria-pressed", String(chosen));
      mark(element, "data-none", value === 0 ? "" : null);
      element.hidden = value === 0 && !chosen && !ALWAYS.includes(status);
    }
    for (const [tone, bar] of this.#bars) {
      bar.style.flexGrow = String(tones.get(tone) ?? 0);
      bar.hidden = !tones.has(tone);
    }
  }

  #chip(status) {
    const label = status === null ? "all" : status === TROUBLE ? "need a person" : plain(status);
    const number = make("b");
    const element = make(
      "button",
      {
        type: "button",
        class: "chip",
        "data-status": status ?? "all",
        "data-tone": status === null ? null : status === TROUBLE ? "bad" : toneOf(status),
        // Once more: all again.
        on: { click: () => this.#onFilter(this.#fleet.status === status ? null : status) },
      },
      number,
      make("span", {}, status === null ? null : make("i", { "aria-hidden": "true" }), label),
    );
    this.#chips.set(status, { element, number });
    byId("strip").append(element);
  }
}
