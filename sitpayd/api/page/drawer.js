// The drawer: one device, and why it is as it is. What the list knows is there at once; cause, next
// step, advice and history are asked for, and again after each change.

import { Commands, words } from "./commands.js";
import { mark, make, write } from "./dom.js";
import { Linking } from "./linking.js";
import { age, duration, clock, exact, moment, nameOf, plain } from "./words.js";

const SETTLE_MS = 250;
const AGAIN_MS = 15_000;

export class Drawer {
  #client;
  #fleet;
  #element;
  #onClose;
  #id = null;
  #entry = null;
  #turn = 0;
  #timer = 0;
  #shownVersion = -1;

  #name = make("h2", { id: "drawer-name" });
  #word = make("span");
  #badge = make("span", { class: "badge" }, make("i", { "aria-hidden": "true" }), this.#word);
  #reason = make("span", { class: "reason" });
  #facts = make("dl", { class: "facts" });
  #story = make("dl", { class: "story" });
  #problem = make("p", { class: "problem", role: "alert" });
  #events = make("ol", { class: "events" });
  #commands;
  #linking;
  #values = {};

  /** `onClose()`: the person wants it closed. */
  constructor(element, client, fleet, { onClose }) {
    this.#element = element;
    this.#client = client;
    this.#fleet = fleet;
    this.#onClose = onClose;
    this.#commands = new Commands(client, () => this.#load());
    this.#linking = new Linking(client);
    const fact = (label, name) => {
      const value = (this.#values[name] = make("dd", { "data-fact": name }));
      this.#facts.append(make("div", {}, make("dt", { text: label }), value));
    };
    fact("Since", "since");
    fact("Until", "until");
    fact("Partner", "partner");
    fact("Number", "phone");
    fact("Session id", "id");
    const part = (label, name) => {
      const value = (this.#values[name] = make("dd", { "data-story": name }));
      this.#story.append(make("div", { class: name }, make("dt", { text: label }), value));
    };
    part("Cause", "cause");
    part("Proof", "proof");
    part("What happens next", "next");
    part("What you can do", "advice");
    element.replaceChildren(
      make(
        "header",
        {},
        make("div", { class: "title" }, this.#name, make("p", {}, this.#badge, this.#reason)),
        make("button", {
          type: "button",
          class: "quiet close",
          "aria-label": "Close",
          title: "Close (Esc)",
          text: "×",
          on: { click: () => this.#onClose() },
        }),
      ),
      make(
        "div",
        { class: "content" },
        this.#problem,
        this.#story,
        this.#linking.element,
        this.#commands.element,
        this.#facts,
        make("section", { class: "history", "aria-label": "History" }, make("h3", { text: "History" }), this.#events),
      ),
    );
  }

  /** The id of the device it shows; null: it is closed. */
  get id() {
    return this.#id;
  }

  open(id) {
    if (id !== this.#id) {
      this.#id = id;
      this.#entry = null;
      this.#shownVersion = -1;
      this.#problem.textContent = "";
      this.#events.replaceChildren();
      for (const name of ["cause", "next", "advice"]) {
        this.#tellStory(name, null);
      }
      this.#element.scrollTop = 0;
    }
    this.#element.hidden = false;
    this.update();
    this.#element.focus({ preventScroll: true });
  }

  close() {
    this.#id = null;
    this.#entry = null;
    this.#turn += 1;
    clearTimeout(this.#timer);
    this.#linking.show(null);
    this.#element.hidden = true;
  }

  /** The device may have changed. */
  update() {
    if (this.#id === null) {
      return;
    }
    const entry = this.#fleet.entry(this.#id);
    if (entry === null && this.#entry !== null) {
      this.#problem.textContent = "This device was removed.";
      this.#commands.show(null);
      this.#linking.show(null);
      clearTimeout(this.#timer);
      this.#entry = null;
      return;
    }
    this.#entry = entry;
    this.#paint();
    if (entry !== null && entry.version !== this.#shownVersion) {
      this.#shownVersion = entry.version;
      this.#later(SETTLE_MS);
    } else if (entry === null) {
      this.#later(SETTLE_MS);
    }
  }

  /** Let ages and countdowns go on. */
  tick() {
    if (this.#entry !== null) {
      this.#paintTimes();
      this.#linking.tick();
    }
  }

  #paint() {
    const entry = this.#entry;
    write(this.#name, entry === null ? this.#id : nameOf(entry.device));
    this.#badge.hidden = entry === null;
    if (entry === null) {
      return;
    }
    const { device } = entry;
    mark(this.#element, "data-tone", entry.tone);
    write(this.#word, plain(device.status));
    write(this.#reason, device.reason ? plain(device.reason) : "");
    write(this.#values.partner, device.partner_name ?? "unknown");
    write(this.#values.phone, device.phone ?? "not linked");
    write(this.#values.id, device.session_id);
    this.#paintTimes();
    this.#commands.show(device);
    this.#linking.show(device);
  }

  #paintTimes() {
    const { device, since, until, verified } = this.#entry;
    this.#tellTime("since", since, `${age(since)} ago`);
    this.#values.until.parentElement.hidden = until === null;
    if (until !== null) {
      const left = (until - clock()) / 1000;
      this.#tellTime("until", until, left > 0 ? `in ${duration(left)}` : "over");
    }
    if (verified === null) {
      write(this.#values.proof, "WhatsApp was not heard since the daemon started.");
      mark(this.#values.proof, "title", null);
    } else {
      this.#tellTime("proof", verified, `WhatsApp was heard ${age(verified)} ago (${plain(device.evidence)})`);
    }
    mark(this.#values.proof, "data-old", this.#entry.unproved ? "" : null);
  }

  #tellTime(name, at, text) {
    write(this.#values[name], `${text}, ${moment(at)}`);
    mark(this.#values[name], "title", exact(at));
  }

  #later(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#load(), ms);
  }

  async #load() {
    const turn = ++this.#turn;
    const id = this.#id;
    clearTimeout(this.#timer);
    if (id === null) {
      return;
    }
    const version = this.#fleet.version;
    try {
      const told = await this.#client.history(id);
      if (turn !== this.#turn || id !== this.#id) {
        return;
      }
      this.#problem.textContent = "";
      this.#fleet.refresh([told.device], version);
      this.#paint();
      for (const name of ["cause", "next", "advice"]) {
        this.#tellStory(name, told.explanation[name]);
      }
      this.#tellEvents(told.events);
    } catch (refusal) {
      if (turn !== this.#turn) {
        return;
      }
      this.#problem.textContent = `Its history cannot be shown: ${words(refusal)}`;
    }
    this.#later(AGAIN_MS);
  }

  #tellStory(name, text) {
    write(this.#values[name], text ?? "");
    this.#values[name].parentElement.hidden = !text;
  }

  #tellEvents(events) {
    const shown = events.map(({ at, kind, text }) => {
      const when = Date.parse(at);
      return make(
        "li",
        { "data-kind": kind },
        make("time", { datetime: at, title: exact(when), text: moment(when) }),
        make("span", { text }),
      );
    });
    this.#events.replaceChildren(
      ...(shown.length > 0
        ? shown
        : [make("li", { class: "none" }, make("span", { text: "Nothing since the daemon started." }))]),
    );
  }
}
