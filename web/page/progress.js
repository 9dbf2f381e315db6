/** What is being loaded: a line for each part, shown at most five times a second, and said aloud much less often. */

import { byId, element } from "./dom.js";
import { percent, size } from "./words.js";

/** @typedef {import("../recogniser/types.js").Progress} Progress */

/** @type {[string, Progress["role"][]][]} in the order in which they are needed */
const PARTS = [
  ["Card list", ["records"]],
  ["Vectors", ["vectors", "whitened", "whitening", "hashes"]],
  ["Encoder", ["encoder", "reference"]],
  ["OpenCV", ["outline"]],
  ["Runtime", ["runtime"]],
];
/** @typedef {{bar: HTMLProgressElement, words: HTMLElement, item: HTMLElement}} Line */

const SHOWN_EVERY = 200; // milliseconds
const SAID_EVERY = 10_000;

/**
 * @returns {{
 *   add: (progress: Progress) => void, say: (words: string) => void,
 *   begin: (what: string, where?: "above" | "corner") => void, end: () => void,
 * }} begin: above what is waited for, or in a corner, where it moves nothing that is in use
 */
export function progressRegion() {
  const region = byId("progress", HTMLElement);
  const said = byId("progress-said", HTMLElement);
  const heading = element("h2", {});
  const list = element("ul", {});
  region.append(heading, list);
  /** @type {Map<string, Progress>} */
  const seen = new Map();
  /** @type {Map<string, Line>} */
  const lines = new Map();
  let timer = 0;
  let lastSaid = 0;

  /** @param {string} name */
  function line(name) {
    const known = lines.get(name);
    if (known) {
      return known;
    }
    const bar = element("progress", { "aria-label": name, max: 1 });
    const words = element("span", { class: "soft" });
    const item = element("li", {}, element("span", {}, name), bar, words);
    list.append(item);
    const made = { bar, words, item };
    lines.set(name, made);
    return made;
  }

  function show() {
    timer = 0;
    const told = [];
    for (const [name, roles] of PARTS) {
      const parts = roles.flatMap((role) => seen.get(role) ?? []);
      if (parts.length) {
        told.push(showPart(line(name), name, parts));
      }
    }
    if (performance.now() - lastSaid > SAID_EVERY) {
      lastSaid = performance.now();
      said.textContent = `Loading: ${told.filter(Boolean).join(", ")}`;
    }
  }

  return {
    add(progress) {
      seen.set(progress.role, progress);
      timer ||= setTimeout(show, SHOWN_EVERY);
    },
    say(words) {
      said.textContent = words;
      lastSaid = performance.now();
    },
    begin(what, where = "above") {
      heading.textContent = what;
      region.classList.toggle("corner", where === "corner");
      region.hidden = false;
    },
    end() {
      clearTimeout(timer);
      timer = 0;
      region.hidden = true;
      seen.clear();
      lines.clear();
      list.replaceChildren();
    },
  };
}

/**
 * @param {Line} line
 * @param {string} name
 * @param {Progress[]} parts
 * @returns {string} what to say of it; "" once it is there
 */
function showPart({ bar, words, item }, name, parts) {
  const loaded = parts.reduce((sum, part) => sum + part.loaded, 0);
  const total = parts.every((part) => part.total) ? parts.reduce((sum, part) => sum + part.total, 0) : 0;
  if (!total) {
    bar.removeAttribute("value");
    words.textContent = size(loaded);
    return `${name} ${size(loaded)}`;
  }
  const share = Math.min(loaded / total, 1);
  bar.value = share;
  item.classList.toggle("done", share === 1);
  words.textContent = share === 1 ? size(total) : `${size(loaded)} of ${size(total)}, ${percent(share)}`;
  return share === 1 ? "" : `${name} ${percent(share)} of ${size(total)}`;
}
