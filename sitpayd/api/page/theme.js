// Before anything is painted: a chosen colour scheme must not flash the other one. What is stored
// is one of two words; with none, the page follows the system.
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("sitpayd.theme");
  } catch {
    // A browser that keeps nothing: follow the system.
  }
  if (chosen === "light" || chosen === "dark") {
    document.documentElement.dataset.theme = chosen;
  }
}
