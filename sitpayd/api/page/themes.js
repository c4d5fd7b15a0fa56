// The colour switch: as the system, light, dark. theme.js applies what was chosen before anything
// is painted.

import { make } from "./dom.js";

const STORED = "sitpayd.theme";
const THEMES = [
  { name: "auto", label: "Auto", next: "light" },
  { name: "light", label: "Light", next: "dark" },
  { name: "dark", label: "Dark", next: "auto" },
];

/** Make a button go through the colour schemes. */
export function themeSwitch(button) {
  const label = make("span");
  button.replaceChildren(make("i", { class: "half", "aria-hidden": "true" }), label);
  const paint = () => {
    const theme = current();
    label.textContent = theme.label;
    button.setAttribute("aria-label", `Colours: ${theme.label}`);
  };
  button.addEventListener("click", () => {
    choose(current().next);
    paint();
  });
  paint();
}

function current() {
  const chosen = document.documentElement.dataset.theme ?? "auto";
  return THEMES.find(({ name }) => name === chosen);
}

function choose(name) {
  if (name === "auto") {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = name;
  }
  try {
    if (name === "auto") {
      localStorage.removeItem(STORED);
    } else {
      localStorage.setItem(STORED, name);
    }
  } catch {
    // A browser that keeps nothing: it holds until the page is loaded again.
  }
}
