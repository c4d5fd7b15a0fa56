// Words and times: how what the daemon tells is shown to people.

// Tones order the table, trouble first. A tone is a colour and a shape, and always has its word beside it.
const TONES = ["bad", "warn", "busy", "idle", "good"];

/** Every status: its tone, and its place in the strip. */
export const STATUSES = {
  faulted: "bad",
  action_required: "bad",
  banned: "bad",
  outdated: "bad",
  replaced: "bad",
  logged_out: "bad",
  waiting: "warn",
  connecting: "busy",
  paired: "busy",
  pairing: "busy",
  unpaired: "idle",
  paused: "idle",
  connected: "good",
};

/** A connected device with an older proof of life is not shown as alive; seconds. */
export const PROOF_BOUND_S = 70;

/** The tone of a status; one that this page does not know looks like a warning. */
export function toneOf(status) {
  return STATUSES[status] ?? "warn";
}

/** A tone's place in the table's order. */
export function rankOf(tone) {
  return TONES.indexOf(tone);
}

/** `logged_out` as people write it. */
export function plain(word) {
  return word.replaceAll("_", " ");
}

/** A number as people write it: 10,000. */
export const count = (number) => number.toLocaleString("en");

/** What a device is called: its name, else its id. */
export const nameOf = (device) => device.device_name || device.session_id;

// --- times ---

let aheadMs = 0;

/**
 * Learn the daemon's clock: ages are told by it, not by a laptop that is minutes off.
 * `coarseMs`: how much `at` may be off itself; what is nearer than that is no news.
 */
export function setClock(at, coarseMs) {
  const told = Date.parse(at);
  if (Math.abs(told - clock()) > coarseMs) {
    aheadMs = told - Date.now();
  }
}

/** The daemon's time now, milliseconds. */
export const clock = () => Date.now() + aheadMs;

// Below; unit; name. Seconds go a little further: a proof of life is too old from 70 s on.
const STEPS = [
  [100, 1, "s"],
  [3600, 60, "min"],
  [86_400, 3600, "h"],
  [Infinity, 86_400, "d"],
];

/** `42 s`, `3 min`, `5 h`, `12 d`: as long as it takes to see whether it matters. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [, unit, name] = STEPS.find(([below]) => whole < below);
  return `${Math.floor(whole / unit)} ${name}`;
}

/** How long ago, milliseconds since the epoch. */
export const age = (at) => duration((clock() - at) / 1000);

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const TIME = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const ZONE = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" });

/** The exact time of day, here. */
export const timeOfDay = (at) => TIME.format(at);

/** The exact day and time, here. */
export const exact = (at) => `${DAY.format(at)}, ${TIME.format(at)} ${zone(at)}`;

/** The time of day, with the day before it unless it is today. */
export function moment(at) {
  return DAY.format(at) === DAY.format(clock()) ? TIME.format(at) : `${DAY.format(at)}, ${TIME.format(at)}`;
}

function zone(at) {
  return ZONE.formatToParts(at).find((part) => part.type === "timeZoneName").value;
}
