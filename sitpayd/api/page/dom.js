// Elements, made without markup: whatever a device is called, it stays text (T-29).

/** The element with this id; the page is wrong without it. */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) {
    throw new Error(`no element ${id}`);
  }
  return found;
}

/**
 * Make an element.
 * `attributes`: `class`, `text`, `on` (events by name), anything else as an attribute; null and
 * false leave one out, true sets it empty.
 */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") {
      element.textContent = value;
    } else if (key === "on") {
      for (const [event, listener] of Object.entries(value)) {
        element.addEventListener(event, listener);
      }
    } else if (value !== null && value !== false && value !== undefined) {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Write a text where it differs: what did not change is not laid out anew. */
export function write(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Set or take away an attribute where it differs. */
export function mark(element, name, value) {
  if (value === null || value === undefined) {
    if (element.hasAttribute(name)) {
      element.removeAttribute(name);
    }
  } else if (element.getAttribute(name) !== value) {
    element.setAttribute(name, value);
  }
}

/** Say something once to who listens to the page instead of looking at it. */
export function say(text) {
  byId("spoken").textContent = text;
}
