/** The list of cards that were recognised for sure; it lasts as long as the tab. */

import { byId, element } from "./dom.js";
import { counted, dateAndTime, isPrintingKnown, printing, score } from "./words.js";

/** @typedef {import("../recogniser/types.js").Card} Card */

/**
 * @typedef {object} Sighting
 * @property {string} name
 * @property {string} set
 * @property {string} number
 * @property {boolean} isPrintingKnown
 * @property {number} score the best
 * @property {string} time of the last, as the device's clock says
 * @property {number} count
 */

const KEY = "mtg-image-db-seen";

/**
 * @returns {{add: (card: Card) => void}} adds a sighting of a sure card
 */
export function seenList() {
  const list = byId("seen-list", HTMLElement);
  const said = byId("seen-said", HTMLElement);
  let sightings = kept();

  function show() {
    list.replaceChildren(...sightings.map((sighting) => item(sighting, () => remove(sighting))));
    byId("seen-none", HTMLElement).hidden = sightings.length > 0;
    byId("seen-actions", HTMLElement).hidden = !sightings.length;
    byId("seen-count", HTMLElement).textContent = String(sightings.length);
    try {
      sessionStorage.setItem(KEY, JSON.stringify(sightings));
    } catch {
      // forbidden or full: the list holds until the page is closed
    }
  }

  /** @param {Sighting} sighting */
  function remove(sighting) {
    const at = sightings.indexOf(sighting);
    sightings = sightings.filter((other) => other !== sighting);
    show();
    said.textContent = `${sighting.name} was removed.`;
    const next = list.querySelectorAll("button")[Math.min(at, sightings.length - 1)];
    (next ?? byId("seen", HTMLElement)).focus();
  }

  /**
   * @param {string} text
   * @param {string} what
   */
  async function copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = `${what} of ${counted(sightings.length, "card")} copied.`;
    } catch {
      said.textContent = "This browser does not let the page copy. Download the CSV instead.";
    }
  }

  byId("copy-text", HTMLButtonElement).addEventListener("click", () => copy(asText(sightings), "Text"));
  byId("copy-csv", HTMLButtonElement).addEventListener("click", () => copy(asCsv(sightings), "CSV"));
  byId("save-csv", HTMLButtonElement).addEventListener("click", () => save(asCsv(sightings)));
  byId("clear", HTMLButtonElement).addEventListener("click", () => {
    sightings = [];
    show();
    said.textContent = "The list is empty.";
    byId("seen", HTMLElement).focus();
  });
  show();

  return {
    add(card) {
      sightings = withCard(sightings, card);
      said.textContent = "";
      show();
    },
  };
}

/** @returns {Sighting[]} */
function kept() {
  try {
    const read = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    return Array.isArray(read) ? read : [];
  } catch {
    return [];
  }
}

/**
 * The list with a sighting of `card`, the last one first.
 *
 * @param {Sighting[]} sightings
 * @param {Card} card
 * @returns {Sighting[]}
 */
function withCard(sightings, card) {
  const [{ face, score: value }] = card.printings.length ? card.printings : card.matches;
  const { name, set, collector_number: number = "" } = face;
  const isSame = (/** @type {Sighting} */ other) => other.name === name && other.set === set && other.number === number;
  const known = sightings.find(isSame);
  const sighting = {
    ...{ name, set, number, isPrintingKnown: isPrintingKnown(card), time: dateAndTime(new Date()) },
    score: Math.max(value, known?.score ?? -1),
    count: (known?.count ?? 0) + 1,
  };
  return [sighting, ...sightings.filter((other) => !isSame(other))];
}

/**
 * @param {Sighting} sighting
 * @param {() => void} onRemove
 */
function item(sighting, onRemove) {
  const { name, count, time, score: value } = sighting;
  const [, clock] = time.split(" ");
  return element(
    "li",
    {},
    element(
      "div",
      {},
      element("span", { class: "name" }, name),
      count > 1 && element("span", { class: "badge", title: "sightings" }, `×${count}`),
      element("span", { class: "soft line" }, `${printingOf(sighting)} · score ${score(value)} · `,
        element("time", { datetime: time }, clock)),
    ),
    element("button", { type: "button", class: "plain", "aria-label": `Remove ${name}`, click: onRemove }, "✕"),
  );
}

/** @param {Sighting} sighting "DWA 7", or "DWA 7 or another printing" */
const printingOf = ({ set, number, isPrintingKnown: known }) =>
  printing({ set, collector_number: number }) + (known ? "" : " or another printing");

/** @param {Sighting[]} sightings a line each: "2 Name (DWA) 7", as deck builders read it */
export const asText = (sightings) =>
  sightings
    .map((sighting) => `${sighting.count} ${sighting.name} (${sighting.set.toUpperCase()}) ${sighting.number}`.trim())
    .join("\n");

/**
 * As CSV (RFC 4180). A cell that a spreadsheet would take for a formula begins with an apostrophe.
 *
 * @param {Sighting[]} sightings
 */
export function asCsv(sightings) {
  const rows = sightings.map((one) => [
    ...[text(one.name), text(one.set), text(one.number), one.isPrintingKnown ? "yes" : "no"],
    ...[one.score.toFixed(4), one.time, String(one.count)],
  ]);
  const header = ["name", "set", "collector_number", "printing_sure", "score", "time", "count"];
  return [header, ...rows].map((row) => `${row.map(quoted).join(",")}\r\n`).join("");
}

/** @param {string} value */
const text = (value) => (/^[=+\-@\t\r]/.test(value) ? `'${value}` : value);

/** @param {string} cell */
const quoted = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

/** @param {string} csv with a byte order mark, which Excel takes UTF-8 by */
function save(csv) {
  const address = URL.createObjectURL(new Blob(["\ufeff", csv], { type: "text/csv;charset=utf-8" }));
  element("a", { href: address, download: "cards.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
