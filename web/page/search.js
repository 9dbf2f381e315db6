/** Search: faces by words of their name and by set, as a grid of pictures. */

import { byId, element } from "./dom.js";
import { showMessage } from "./messages.js";
import { faceItem } from "./pictures.js";
import { count, counted, setAndNumber } from "./words.js";

/** @typedef {import("../recogniser/types.js").Face} Face */
/** @typedef {import("../recogniser/types.js").Recogniser} Recogniser */

const PAGE = 36; // faces that are added at a time
const TYPING = 150; // milliseconds without a key before a search

/**
 * @param {(row: number, face: Face) => void} onOpen a face was chosen
 * @returns {{start: (recogniser: Recogniser) => Promise<void>}}
 */
export function searchView(onOpen) {
  const words = byId("words", HTMLInputElement);
  const set = byId("set", HTMLSelectElement);
  const more = byId("more", HTMLButtonElement);
  const grid = byId("grid", HTMLElement);
  const place = byId("search-message", HTMLElement);
  /** @type {Recogniser | null} */
  let recogniser = null;
  let isLoaded = false; // all names are there
  /** @type {unknown} why some names are not there */
  let failure;
  let asked = 0;
  let wanted = PAGE; // faces to be shown
  let timer = 0;

  /**
   * @param {number} offset 0: a new search; else what comes after so many
   * @param {number} [limit]
   */
  async function find(offset, limit = PAGE) {
    if (!recogniser) {
      return;
    }
    const mine = ++asked;
    wanted = offset + limit;
    try {
      const found = await recogniser.search(words.value, { set: set.value || undefined, limit, offset });
      if (mine === asked) {
        showMessage(place, failure);
        show(found, offset);
      }
    } catch (error) {
      if (mine === asked) {
        showMessage(place, error);
      }
    }
  }

  /**
   * @param {Awaited<ReturnType<Recogniser["search"]>>} found
   * @param {number} offset
   */
  function show({ total, faces }, offset) {
    const items = faces.map(({ row, face }) => faceItem(row, face, setAndNumber(face), onOpen));
    const focused = grid.querySelector("button:focus")?.getAttribute("data-row");
    if (offset) {
      grid.append(...items);
      items[0]?.querySelector("button")?.focus();
    } else {
      grid.replaceChildren(...items);
      const again = /** @type {HTMLElement | null} */ (grid.querySelector(`[data-row="${focused}"]`));
      again?.focus();
    }
    const shown = offset + faces.length;
    more.hidden = shown >= total;
    more.textContent = `Show more (${count(total - shown)} left)`;
    const soFar = isLoaded ? "" : " so far";
    byId("hits", HTMLElement).textContent = total
      ? counted(total, "card face") + soFar + (shown < total ? `, the first ${count(shown)} are shown` : "")
      : `No card has such a name${soFar}. Try fewer or other words, or all sets.`;
  }

  /** Fill the list of sets, by which we know whether all names are there; the chosen one stays. */
  async function showSets() {
    const sets = (await recogniser?.sets().catch(() => [])) ?? [];
    const options = sets.map(({ set: code, name, count: faces }) => {
      const label = name ? `${name} (${code.toUpperCase()})` : code.toUpperCase();
      return element("option", { value: code }, `${label}, ${count(faces)}`);
    });
    const chosen = set.value;
    set.replaceChildren(element("option", { value: "" }, `All ${counted(sets.length, "set")}`), ...options);
    set.value = chosen;
    isLoaded = sets.reduce((sum, { count: faces }) => sum + faces, 0) === recogniser?.info.count;
  }

  /**
   * Search again once all names are there, with as many faces as are shown.
   *
   * @param {Recogniser} made
   */
  async function complete(made) {
    /** @type {unknown} */
    let why;
    try {
      await made.loaded;
    } catch (error) {
      why = error;
    }
    if (recogniser !== made || (isLoaded && !why)) {
      return; // another has been started since, or there was but one part
    }
    failure = why;
    await showSets();
    await find(0, wanted);
  }

  words.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(find, TYPING, 0);
  });
  set.addEventListener("change", () => find(0));
  more.addEventListener("click", () => find(grid.children.length));
  byId("search-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    find(0);
  });

  return {
    async start(made) {
      recogniser = made;
      failure = undefined;
      words.disabled = false;
      set.disabled = false;
      await showSets();
      await find(0);
      complete(made);
    },
  };
}
