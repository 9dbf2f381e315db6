"use strict";

// Light or dark before anything is painted: a classic script, since modules run after the first paint.
{
  const KEY = "mtg-image-db-theme";
  const root = document.documentElement;
  /** @param {string} theme "", "light" or "dark" */
  const show = (theme) => {
    if (theme === "light" || theme === "dark") {
      root.dataset.theme = theme;
    } else {
      delete root.dataset.theme;
    }
  };
  const kept = () => {
    try {
      return localStorage.getItem(KEY) ?? "";
    } catch {
      return ""; // storage is forbidden
    }
  };
  show(kept());

  document.addEventListener("DOMContentLoaded", () => {
    const select = /** @type {HTMLSelectElement} */ (document.getElementById("theme"));
    select.value = root.dataset.theme ?? "";
    select.addEventListener("change", () => {
      show(select.value);
      try {
        localStorage.setItem(KEY, select.value);
      } catch {
        // then it holds for this visit
      }
    });
  });
}
