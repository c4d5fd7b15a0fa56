// The fleet: every device as last told, which of them are asked for, and in which order. No element
// of the page is touched here.
//
// Order is kept apart from content. What a row says changes at once; where it stands changes in
// `arrange`, and there only while nobody is pointing at it.

import { PROOF_BOUND_S, clock, nameOf, plain, rankOf, toneOf } from "./words.js";

/** Statuses that do not mend themselves, as one filter. */
export const TROUBLE = "trouble";

const COLLATOR = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** How rows can be ordered; each falls back on the id, so that equal ones keep their places. */
const ORDERS = {
  trouble: (a, b) => a.rank - b.rank || b.since - a.since,
  device: (a, b) => COLLATOR.compare(nameOf(a.device), nameOf(b.device)),
  partner: (a, b) => COLLATOR.compare(a.device.partner_name ?? "", b.device.partner_name ?? ""),
  reason: (a, b) => COLLATOR.compare(a.device.reason ?? "\uffff", b.device.reason ?? "\uffff"),
  since: (a, b) => b.since - a.since,
  // The oldest first; what was never heard has none to look at.
  proof: (a, b) => (a.verified ?? Number.MAX_VALUE) - (b.verified ?? Number.MAX_VALUE),
};

/** One device as the page uses it. */
class Entry {
  constructor(device, version) {
    this.take(device, version);
  }

  take(device, version) {
    this.device = device;
    this.version = version;
    this.tone = toneOf(device.status);
    this.rank = rankOf(this.tone);
    this.since = Date.parse(device.since);
    this.until = device.until ? Date.parse(device.until) : null;
    this.verified = device.verified_at ? Date.parse(device.verified_at) : null;
    this.text = [
      device.session_id,
      device.device_name,
      device.partner_name,
      device.phone,
      plain(device.status),
      device.reason && `${device.reason} ${plain(device.reason)}`,
    ]
      .filter(Boolean)
      .join("\n")
      .toLowerCase();
  }

  /** Whether its last proof of life is older than a device that is alive can have. */
  get unproved() {
    return (
      this.device.status === "connected" &&
      (this.verified === null || clock() - this.verified > PROOF_BOUND_S * 1000)
    );
  }
}

export class Fleet {
  #entries = new Map();
  #version = 0;
  #order = [];
  #words = [];
  #status = null;
  #sort = "trouble";
  #dirty = false;

  /** How many devices are known. */
  get size() {
    return this.#entries.size;
  }

  /** The entries asked for, in the order of the table. */
  get order() {
    return this.#order;
  }

  /** Whether the order is not what it would be now. */
  get dirty() {
    return this.#dirty;
  }

  get sort() {
    return this.#sort;
  }

  /** The status filtered by, TROUBLE, or null. */
  get status() {
    return this.#status;
  }

  /** Counts up with every change that is told; see `refresh`. */
  get version() {
    return this.#version;
  }

  entry(id) {
    return this.#entries.get(id) ?? null;
  }

  /** How many devices are in each status. */
  counts() {
    const counts = new Map();
    for (const { device } of this.#entries.values()) {
      counts.set(device.status, (counts.get(device.status) ?? 0) + 1);
    }
    return counts;
  }

  /** Know these devices and no others. */
  replace(devices) {
    const before = this.#entries;
    this.#entries = new Map();
    this.#version += 1;
    for (const device of devices) {
      // The same entry, so that a row in view stays the row it was.
      const entry = before.get(device.session_id);
      entry?.take(device, this.#version);
      this.#entries.set(device.session_id, entry ?? new Entry(device, this.#version));
    }
    this.#dirty = true;
  }

  /** Take a change that the feed told. */
  put(device) {
    this.#version += 1;
    const entry = this.#entries.get(device.session_id);
    if (entry === undefined) {
      this.#entries.set(device.session_id, new Entry(device, this.#version));
    } else {
      entry.take(device, this.#version);
    }
    this.#dirty = true;
  }

  /** Take devices that were asked for when the fleet had this version: the feed may know better. */
  refresh(devices, version) {
    for (const device of devices) {
      const entry = this.#entries.get(device.session_id);
      if (entry !== undefined && entry.version <= version) {
        this.#dirty ||= entry.device.status !== device.status;
        entry.take(device, entry.version);
      }
    }
  }

  remove(id) {
    this.#version += 1;
    if (this.#entries.delete(id)) {
      this.#dirty = true;
    }
  }

  /** Ask for devices whose texts hold every word. */
  search(text) {
    this.#words = text.toLowerCase().split(/\s+/).filter(Boolean);
    this.arrange();
  }

  filter(status) {
    this.#status = status;
    this.arrange();
  }

  sortBy(sort) {
    this.#sort = sort;
    this.arrange();
  }

  /** Choose and order the rows anew. */
  arrange() {
    const compare = ORDERS[this.#sort];
    this.#order = [...this.#entries.values()]
      .filter((entry) => this.#asked(entry))
      .sort(
        (a, b) => compare(a, b) || (a.device.session_id < b.device.session_id ? -1 : 1),
      );
    this.#dirty = false;
  }

  #asked(entry) {
    const status = this.#status === TROUBLE ? entry.tone === "bad" && TROUBLE : entry.device.status;
    return (
      (this.#status === null || this.#status === status) &&
      this.#words.every((word) => entry.text.includes(word))
    );
  }
}
