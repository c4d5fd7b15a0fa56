// Linking: the QR code of a device that is being linked, as long as it is worth scanning.
//
// A code is asked for only when a round is under way or a person asks for one: a round makes
// WhatsApp expect a phone, and nobody looks at most drawers.

import { words } from "./commands.js";
import { make } from "./dom.js";
import { clock, duration } from "./words.js";

// A link that WhatsApp refused, of a device that never had one, may be tried again.
const mayBegin = ({ status, phone }) =>
  ["unpaired", "logged_out"].includes(status) || (status === "action_required" && phone === null);
// A little after the code changed: the daemon's next one is there then.
const AFTER_CHANGE_MS = 400;

export class Linking {
  #client;
  #device = null;
  // Counts up when another device or state is shown: answers that come later are not for it.
  #turn = 0;
  #following = false;
  #expiresAt = null;
  #timer = 0;
  #picture = make("img", { alt: "QR code to scan with the phone", width: "300", height: "300" });
  #left = make("p", { class: "left", "aria-live": "off" });
  #text = make("p", { class: "told", role: "status" });
  #begin = make("button", { type: "button", id: "qr-begin", on: { click: () => this.#renew() } });
  #frame = make("div", { class: "code" }, this.#picture, this.#left);

  constructor(client) {
    this.#client = client;
    this.element = make(
      "section",
      { class: "linking", "aria-label": "Link a phone", hidden: true },
      make("h3", { text: "Link a phone" }),
      this.#frame,
      this.#text,
      this.#begin,
    );
  }

  /** Show what linking this device needs now; null: nothing. */
  show(device) {
    const before = this.#device;
    this.#device = device;
    if (before?.session_id !== device?.session_id) {
      this.#stop();
      this.#text.textContent = "";
    }
    const pairing = device?.status === "pairing";
    const may = device !== null && mayBegin(device);
    this.element.hidden = !pairing && !may;
    if (pairing && !this.#following) {
      void this.#follow(false);
    } else if (!pairing && before?.status === "pairing") {
      this.#stop();
      this.#text.textContent =
        device?.reason === "qr_expired" ? "The round is over: nobody scanned a code." : "";
    }
    this.#paint();
  }

  /** Count the code's seconds down. */
  tick() {
    if (this.#expiresAt !== null) {
      const seconds = Math.ceil((this.#expiresAt - clock()) / 1000);
      this.#left.textContent =
        seconds > 0 ? `changes in ${duration(seconds)}` : "changing …";
      this.#picture.classList.toggle("spent", seconds <= 0);
    }
  }

  #renew() {
    this.#stop();
    this.#text.textContent = "Asking WhatsApp for a code …";
    void this.#follow(true);
  }

  async #follow(begin) {
    const turn = ++this.#turn;
    const { session_id: id } = this.#device;
    this.#following = true;
    this.#paint();
    let told;
    try {
      told = await this.#client.qr(id, begin);
    } catch (refusal) {
      if (turn === this.#turn) {
        this.#stop();
        this.#text.textContent = words(refusal);
        this.#paint();
      }
      return;
    }
    if (turn !== this.#turn) {
      return;
    }
    if (told.type === "success") {
      this.#expiresAt = Date.parse(told.expires_at);
      this.#picture.src = told.qr;
      this.#text.textContent =
        "On the phone: WhatsApp, Settings, Linked devices, Link a device. Whoever scans this links their account here: show it to its owner alone.";
      this.#again(this.#expiresAt - clock() + AFTER_CHANGE_MS);
    } else if (told.type === "pending" && (begin || this.#device.status === "pairing")) {
      this.#text.textContent = "Waiting for a code …";
      this.#again(told.retry_after * 1000);
    } else {
      this.#stop();
      this.#text.textContent = told.message ?? "";
    }
    this.tick();
    this.#paint();
  }

  #again(afterMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#follow(false), Math.max(AFTER_CHANGE_MS, afterMs));
  }

  #stop() {
    this.#turn += 1;
    clearTimeout(this.#timer);
    this.#following = false;
    this.#expiresAt = null;
    this.#picture.removeAttribute("src");
  }

  #paint() {
    this.#frame.hidden = this.#expiresAt === null;
    this.#begin.hidden = this.#following && this.#expiresAt === null;
    this.#begin.textContent = this.#following ? "Begin a new round" : "Show a QR code";
  }
}
