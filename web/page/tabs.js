/** Two views as tabs (the ARIA practices' tabs pattern), which #search and #identify address. */

import { byId } from "./dom.js";

const VIEWS = ["search", "identify"];

/**
 * @param {(view: string) => void} onShow
 * @returns {(view: string) => void} shows a view
 */
export function tabs(onShow) {
  const tab = (/** @type {string} */ view) => byId(`tab-${view}`, HTMLButtonElement);

  /** @param {string} shown */
  function show(shown) {
    for (const view of VIEWS) {
      const isShown = view === shown;
      tab(view).setAttribute("aria-selected", String(isShown));
      tab(view).tabIndex = isShown ? 0 : -1;
      byId(view, HTMLElement).hidden = !isShown;
    }
    onShow(shown);
  }

  /** @param {string} view */
  function go(view) {
    if (location.hash !== `#${view}`) {
      history.replaceState(null, "", `#${view}`);
    }
    show(view);
  }

  for (const [i, view] of VIEWS.entries()) {
    tab(view).addEventListener("click", () => go(view));
    tab(view).addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: VIEWS.length - 1 }[event.key];
      if (to !== undefined) {
        event.preventDefault();
        const other = VIEWS[(to + VIEWS.length) % VIEWS.length];
        go(other);
        tab(other).focus();
      }
    });
  }
  const follow = () => {
    const view = location.hash.slice(1);
    if (VIEWS.includes(view)) {
      show(view);
    }
  };
  addEventListener("hashchange", follow);
  show("search");
  follow();
  return go;
}
