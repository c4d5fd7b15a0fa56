// The admin API, asked with the key. The key lives in this object; nothing else holds it, except
// the tab's own storage where the person ticked that.

import { setClock } from "./words.js";

const STORED = "sitpayd.key";
// The header Date knows whole seconds.
const DATE_COARSE_MS = 2_000;
const ANSWER_WITHIN_MS = 15_000;
// A key travels in a header; other characters could not.
const POSSIBLE_KEY = /^[\x21-\x7e]+$/;

/** An answer that is not a success, or none at all. */
export class Refusal extends Error {
  /** `status`: 0 if the daemon did not answer. `code`: the stable word. */
  constructor(message, { status = 0, code = "unreachable", requestId = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
  }

  /** Whether it is about the key. */
  get isAboutKey() {
    return this.status === 401;
  }
}

export class Client {
  #key;

  constructor(key) {
    this.#key = key;
  }

  /** The client with the key this tab was told to keep; null if there is none. */
  static kept() {
    try {
      const key = sessionStorage.getItem(STORED);
      return key === null ? null : new Client(key);
    } catch {
      return null;
    }
  }

  /** Keep the key as long as this tab is open. */
  keep() {
    try {
      sessionStorage.setItem(STORED, this.#key);
    } catch {
      // A browser that keeps nothing: the key is asked for again after a reload.
    }
  }

  /** Forget the key. */
  forget() {
    this.#key = "";
    try {
      sessionStorage.removeItem(STORED);
    } catch {
      // Nothing was kept.
    }
  }

  /** A one-time ticket for the feed. */
  async ticket() {
    return (await this.#ask("POST", "tickets")).ticket;
  }

  /** These devices, at most 200, as they are now. */
  async devices(ids) {
    return (await this.#ask("GET", `devices?ids=${ids.map(encodeURIComponent).join(",")}`)).devices;
  }

  /** A device with explanation and events. */
  async history(id) {
    return this.#ask("GET", `${path(id)}/history`);
  }

  /** The code on show; `begin`: begin a new round at once. */
  async qr(id, begin) {
    return this.#ask(begin ? "POST" : "GET", `${path(id)}/qr`);
  }

  /** pause, resume, reconnect, restart or logout. */
  async operate(id, operation) {
    return this.#ask("POST", `${path(id)}/${operation}`);
  }

  async #ask(method, path) {
    if (!POSSIBLE_KEY.test(this.#key)) {
      throw new Refusal("This cannot be an admin key.", { status: 401, code: "unauthorized" });
    }
    let answer, told;
    try {
      answer = await fetch(path, {
        method,
        headers: { "x-admin-key": this.#key },
        cache: "no-store",
        redirect: "error",
        signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
      });
      told = await answer.json();
    } catch {
      throw answer === undefined
        ? new Refusal("The daemon does not answer.")
        : new Refusal(`The daemon's answer (${answer.status}) cannot be read.`, {
            status: answer.status,
            code: "unreadable",
          });
    }
    setClock(answer.headers.get("date"), DATE_COARSE_MS);
    if (!answer.ok) {
      throw new Refusal(told.message ?? `The daemon answered ${answer.status}.`, {
        status: answer.status,
        code: told.code ?? "unreadable",
        requestId: told.request_id ?? null,
      });
    }
    return told;
  }
}

function path(id) {
  return `devices/${encodeURIComponent(id)}`;
}
