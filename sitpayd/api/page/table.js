// The table: as many rows as the window shows, over a space as high as all of them. Rows are used
// again while it scrolls, so ten thousand devices cost as much as fifty.
//
// The grid itself keeps the focus and names its current row (aria-activedescendant): a row that is
// scrolled away and used again must not take the focus with it.

import { byId, make, mark, write } from "./dom.js";
import { age, exact, nameOf, plain } from "./words.js";

const SPARE_ROWS = 6;
// The pointer or the keyboard moved so short a while ago: order holds still.
const HOLD_MS = 8_000;

// `sort`: the order a column stands for, and how ARIA calls it.
const COLUMNS = [
  { name: "Status", sort: "trouble", aria: "other", cell: "status" },
  { name: "Device", sort: "device", aria: "ascending", cell: "device" },
  { name: "Session id", sort: null, cell: "id" },
  { name: "Partner", sort: "partner", aria: "ascending", cell: "partner" },
  { name: "Number", sort: null, cell: "phone" },
  { name: "Reason", sort: "reason", aria: "ascending", cell: "reason" },
  { name: "Since", sort: "since", aria: "descending", cell: "since" },
  { name: "Proof of life", sort: "proof", aria: "ascending", cell: "proof" },
];

/** One row of the window. */
class Row {
  constructor() {
    this.entry = null;
    this.word = make("span");
    this.cells = Object.fromEntries(
      COLUMNS.map(({ cell }) => [cell, make("div", { role: "gridcell", class: `c-${cell}` })]),
    );
    this.cells.status.append(make("span", { class: "badge" }, make("i", { "aria-hidden": "true" }), this.word));
    this.element = make("div", { role: "row", class: "row" }, ...Object.values(this.cells));
  }

  show(entry, { index, active, open }) {
    const { device } = entry;
    const { cells, element } = this;
    this.entry = entry;
    mark(element, "id", `row-${device.session_id}`);
    mark(element, "aria-rowindex", String(index + 2));
    mark(element, "aria-selected", String(open));
    mark(element, "data-active", active ? "" : null);
    mark(element, "data-tone", entry.unproved ? "warn" : entry.tone);
    write(this.word, plain(device.status));
    write(cells.device, nameOf(device));
    mark(cells.device, "title", nameOf(device));
    write(cells.id, device.session_id);
    write(cells.partner, device.partner_name ?? "");
    mark(cells.partner, "title", device.partner_name ?? null);
    write(cells.phone, device.phone ?? "");
    write(cells.reason, device.reason ? plain(device.reason) : "");
    this.tick();
  }

  /** Tell the ages anew. */
  tick() {
    const { cells, entry } = this;
    write(cells.since, age(entry.since));
    mark(cells.since, "title", `since ${exact(entry.since)}`);
    write(cells.proof, entry.verified !== null ? age(entry.verified) : entry.unproved ? "none" : "–");
    mark(cells.proof, "data-old", entry.unproved ? "" : null);
    mark(cells.proof, "data-none", entry.verified === null && !entry.unproved ? "" : null);
    mark(
      cells.proof,
      "title",
      entry.verified === null
        ? "nothing was heard of it since the daemon started"
        : `${entry.device.evidence ? `${plain(entry.device.evidence)}, ` : ""}${exact(entry.verified)}`,
    );
  }
}

export class Table {
  #fleet;
  #grid = byId("grid");
  #space = byId("rows");
  #rows = [];
  #height = 40;
  #active = null;
  #open = null;
  #touchedAt = 0;
  #pointed = false;
  #onOpen;

  /**
   * `signal`: ends it. `onOpen(id)`: a row was chosen. `onSort(sort)`: a column was. `onScroll()`:
   * other rows are in view.
   */
  constructor(fleet, signal, { onOpen, onSort, onScroll }) {
    this.#fleet = fleet;
    this.#onOpen = onOpen;
    this.#space.replaceChildren();
    byId("columns").replaceChildren(
      ...COLUMNS.map(({ name, sort, cell }) =>
        make(
          "div",
          { role: "columnheader", class: `c-${cell}` },
          sort === null
            ? make("span", { text: name })
            : make("button", { type: "button", text: name, on: { click: () => onSort(sort) } }),
        ),
      ),
    );
    const on = (target, event, listener) =>
      target.addEventListener(event, listener, { signal, passive: event !== "keydown" });
    on(this.#grid, "scroll", () => {
      this.render();
      onScroll();
    });
    on(this.#grid, "keydown", (event) => this.#key(event));
    on(this.#space, "click", (event) => this.#click(event));
    on(this.#space, "pointermove", () => this.#touch(true));
    on(this.#space, "pointerleave", () => (this.#pointed = false));
    const resized = new ResizeObserver(() => {
      this.render();
      onScroll();
    });
    resized.observe(this.#grid);
    signal.addEventListener("abort", () => resized.disconnect());
  }

  /** Whether somebody is pointing at a row or moving through them: order must not change. */
  get held() {
    const focused = document.activeElement === this.#grid;
    return (this.#pointed || focused) && Date.now() - this.#touchedAt < HOLD_MS;
  }

  /** Let the order change again. */
  release() {
    this.#touchedAt = 0;
  }

  /** The ids of the rows in view. */
  get visible() {
    return this.#rows.filter((row) => row.entry !== null).map((row) => row.entry.device.session_id);
  }

  /** Mark the row of the device whose drawer is open; null: none. */
  markOpen(id) {
    this.#open = id;
    if (id !== null) {
      this.#active = id;
    }
    this.render();
  }

  focus() {
    this.#grid.focus({ preventScroll: true });
  }

  /** Focus the grid; with no current row, the first one becomes it. */
  enter() {
    if (this.#index() < 0) {
      this.#move(0);
    }
    this.focus();
  }

  /** Open the first row. */
  openFirst() {
    const first = this.#fleet.order[0];
    if (first !== undefined) {
      this.#active = first.device.session_id;
      this.#onOpen(this.#active);
    }
  }

  top() {
    this.#grid.scrollTop = 0;
  }

  /** Write down what is in view. */
  render() {
    const { order } = this.#fleet;
    this.#height = Number.parseFloat(getComputedStyle(this.#grid).getPropertyValue("--row")) || 40;
    this.#space.style.height = `${order.length * this.#height}px`;
    const first = Math.max(0, Math.floor(this.#grid.scrollTop / this.#height) - SPARE_ROWS);
    const shown = Math.ceil(this.#grid.clientHeight / this.#height) + 2 * SPARE_ROWS;
    const wanted = order.slice(first, first + shown);
    this.#provide(wanted.length);
    this.#rows.forEach((row, place) => {
      const entry = wanted[place] ?? null;
      row.element.hidden = entry === null;
      if (entry === null) {
        row.entry = null;
        row.element.removeAttribute("id");
        return;
      }
      const index = first + place;
      const top = `translateY(${index * this.#height}px)`;
      if (row.element.style.transform !== top) {
        row.element.style.transform = top;
      }
      row.element.classList.toggle("odd", index % 2 === 1);
      const id = entry.device.session_id;
      row.show(entry, { index, active: id === this.#active, open: id === this.#open });
    });
    mark(this.#grid, "aria-rowcount", String(order.length + 1));
    const seen = this.visible.includes(this.#active);
    mark(this.#grid, "aria-activedescendant", seen ? `row-${this.#active}` : null);
    COLUMNS.forEach(({ sort, aria }, place) => {
      const sorted = sort !== null && sort === this.#fleet.sort;
      mark(byId("columns").children[place], "aria-sort", sorted ? aria : null);
    });
  }

  /** Let the ages go on. */
  tick() {
    for (const row of this.#rows) {
      if (row.entry !== null) {
        row.tick();
      }
    }
  }

  #provide(number) {
    while (this.#rows.length < number) {
      const row = new Row();
      this.#rows.push(row);
      this.#space.append(row.element);
    }
  }

  #touch(pointed) {
    this.#pointed ||= pointed;
    this.#touchedAt = Date.now();
  }

  #click(event) {
    const row = this.#rows.find(({ element }) => element.contains(event.target));
    if (row?.entry) {
      this.#active = row.entry.device.session_id;
      this.#onOpen(this.#active);
    }
  }

  #index() {
    return this.#fleet.order.findIndex(({ device }) => device.session_id === this.#active);
  }

  #move(index) {
    const { order } = this.#fleet;
    if (order.length === 0) {
      return;
    }
    const place = Math.min(order.length - 1, Math.max(0, index));
    this.#active = order[place].device.session_id;
    const top = place * this.#height;
    const room = this.#grid.clientHeight - byId("columns").offsetHeight;
    if (top < this.#grid.scrollTop) {
      this.#grid.scrollTop = top;
    } else if (top + this.#height > this.#grid.scrollTop + room) {
      this.#grid.scrollTop = top + this.#height - room;
    }
    this.render();
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.#grid.clientHeight / this.#height) - 2);
    const index = this.#index();
    const to = {
      ArrowDown: index + 1,
      ArrowUp: index - 1,
      PageDown: index + page,
      PageUp: index - page,
      Home: 0,
      End: Infinity,
    }[event.key];
    if (to !== undefined && !event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      this.#touch(false);
      this.#move(to);
    } else if (event.key === "Enter" && index >= 0 && event.target === this.#grid) {
      event.preventDefault();
      this.#onOpen(this.#active);
    }
  }
}
