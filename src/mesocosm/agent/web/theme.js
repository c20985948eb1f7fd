// Which colours the page has: those of the system, or what was chosen. It is loaded before anything is drawn.
"use strict";

(() => {
  const KEY = "mesocosm-theme";
  const ORDER = ["auto", "light", "dark"];

  const read = () => {
    try {
      const stored = localStorage.getItem(KEY);
      return ORDER.includes(stored) ? stored : "auto";
    } catch {
      return "auto"; // Where nothing may be stored, nothing is.
    }
  };

  const apply = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    dispatchEvent(new Event("mesocosm-theme"));
  };

  globalThis.mesocosmTheme = {
    current: read,
    next() {
      const theme = ORDER[(ORDER.indexOf(read()) + 1) % ORDER.length];
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // It is good for this page only, then.
      }
      apply(theme);
      return theme;
    },
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("mesocosm-theme")));
  apply(read());
})();
