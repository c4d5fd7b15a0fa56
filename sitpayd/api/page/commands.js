// What a person can do to a device, what each of it means, and the question asked before.

import { byId, make } from "./dom.js";
import { nameOf } from "./words.js";

const RESTING = ["replaced", "banned", "outdated", "action_required"];
const LINKED = ["connected", "connecting", "waiting", "paired", "paused", "faulted", ...RESTING];

/**
 * Every operation: its words, the statuses it makes sense in, and what it will do. The daemon
 * decides; this only keeps what cannot work out of the way.
 */
const OPERATIONS = [
  {
    name: "reconnect",
    label: "Reconnect",
    when: ["connected", "connecting", "waiting", "paired", "faulted", "replaced"],
    does: ({ status }) =>
      status === "replaced"
        ? "It logs in again now. If the other copy of this login still runs, the two will push each other out: stop that one first."
        : "Its connection is dropped and dialled anew at once. Messages that wait stay in the queue; nothing is lost.",
  },
  {
    name: "resume",
    label: "Resume",
    when: ["paused", ...RESTING],
    does: ({ status }) =>
      status === "paused"
        ? "It connects again and sends what has waited."
        : "It tries to log in again. If WhatsApp still refuses it, it goes back to rest with the same reason.",
  },
  {
    name: "pause",
    label: "Pause",
    when: ["connected", "connecting", "waiting", "paired", "faulted"],
    does: () =>
      "Its connection is closed and it stays offline, also when the daemon starts again, until somebody resumes it. New sends are refused; what is queued waits.",
  },
  {
    name: "restart",
    label: "Restart",
    when: ["unpaired", "pairing", "logged_out", ...LINKED],
    does: () =>
      "Its actor is ended and begun anew from what is stored, with a new connection. No message is lost. Other devices do not notice.",
  },
  {
    name: "logout",
    label: "Log out",
    grave: true,
    when: LINKED,
    typed: "log out",
    does: () =>
      "WhatsApp ends this login for good, and the device's keys are worth nothing after it. To send again, its owner has to scan a new code with the phone. Messages that wait will not be sent.",
  },
];

/**
 * Ask before something is done. `typed`: a word that has to be typed first.
 * Resolves to whether it was agreed to; the focus goes back to where it was.
 */
function ask({ title, text, agree, typed = null, grave = false }) {
  const dialog = byId("ask");
  const yes = byId("ask-yes");
  const word = byId("ask-word");
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  byId("ask-typed").hidden = typed === null;
  dialog.querySelector("label").textContent = `To confirm, type: ${typed}`;
  word.value = "";
  yes.textContent = agree;
  yes.classList.toggle("grave", grave);
  const fits = () => typed === null || word.value.trim().toLowerCase() === typed;
  yes.disabled = !fits();
  word.oninput = () => (yes.disabled = !fits());
  byId("ask-no").onclick = () => dialog.close("");
  dialog.returnValue = "";
  dialog.showModal();
  // What changes something is never what a stray Enter hits.
  (typed === null ? byId("ask-no") : word).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" && fits()), {
      once: true,
    });
  });
}

/** The buttons of one device, with the result of what was done last. */
export class Commands {
  #client;
  #onDone;
  #device = null;
  #busy = null;
  #buttons = new Map();
  #result = make("p", { class: "result", role: "status" });

  /** `onDone()`: something was done to the device. */
  constructor(client, onDone) {
    this.#client = client;
    this.#onDone = onDone;
    const buttons = OPERATIONS.map((operation) => {
      const button = make("button", {
        type: "button",
        text: operation.label,
        class: operation.grave ? "grave" : null,
        "data-operation": operation.name,
        on: { click: () => this.#run(operation) },
      });
      this.#buttons.set(operation, button);
      return button;
    });
    this.element = make(
      "section",
      { class: "commands", "aria-label": "What you can do" },
      make("div", { class: "buttons" }, ...buttons),
      this.#result,
    );
  }

  /** Offer what makes sense for this device; null: nothing does. */
  show(device) {
    if (device?.session_id !== this.#device?.session_id) {
      this.#tell("");
    }
    this.#device = device;
    for (const [operation, button] of this.#buttons) {
      const fits = device !== null && operation.when.includes(device.status);
      button.hidden = !fits && operation.name !== this.#busy;
      button.disabled = this.#busy !== null;
    }
  }

  async #run(operation) {
    const device = this.#device;
    const agreed = await ask({
      title: `${operation.label}: ${nameOf(device)}`,
      text: operation.does(device),
      agree: operation.label,
      typed: operation.typed,
      grave: operation.grave,
    });
    if (!agreed) {
      return;
    }
    this.#busy = operation.name;
    this.show(this.#device);
    this.#tell("…");
    let text, failed;
    try {
      text = (await this.#client.operate(device.session_id, operation.name)).message;
    } catch (refusal) {
      failed = true;
      text = words(refusal);
    }
    this.#busy = null;
    if (this.#device?.session_id === device.session_id) {
      this.#tell(failed ? `${operation.label} was not done. ${text}` : text, failed);
      this.show(this.#device);
      this.#onDone();
    }
  }

  #tell(text, failed = false) {
    this.#result.textContent = text;
    this.#result.classList.toggle("failed", failed);
  }
}

/** A refusal in words, with what support asks for. */
export function words(refusal) {
  const id = refusal.requestId === null ? "" : ` (request ${refusal.requestId})`;
  return `${refusal.message}${id}`;
}
