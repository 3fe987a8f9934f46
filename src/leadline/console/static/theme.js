// Runs before the page is painted: the theme that the visitor chose, and that there are scripts.
(() => {
  const root = document.documentElement;
  root.dataset.scripted = "";
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch {
    // Storage may be forbidden; the system's theme is as good.
  }
})();
