/** An answer: the picture with its cards outlined, and a list of the cards with what each was matched with. */

import { element, factList, shape } from "./dom.js";
import { faceItem } from "./pictures.js";
import { counted, howSure, isPrintingKnown, percent, printing, score, setAndNumber } from "./words.js";

/** @typedef {import("../recogniser/types.js").Answer} Answer */
/** @typedef {import("../recogniser/types.js").Card} Card */
/** @typedef {import("../recogniser/types.js").Match} Match */
/** @typedef {(row: number, face: import("../recogniser/types.js").Face) => void} OnOpen */

/** @param {Card} card */
const kind = (card) => (card.sure ? "sure" : "unsure");

/** @param {Card} card */
const nameOf = (card) => card.matches[0]?.face.name ?? "unknown";

/**
 * What an answer says, in one sentence.
 *
 * @param {Answer} answer
 */
export function sentence({ cards }) {
  if (!cards.length) {
    return "No card was found.";
  }
  const named = cards.map((card) => `${nameOf(card)} (${howSure(card).toLowerCase()})`);
  return cards.length === 1 ? `${named[0]}.` : `${counted(cards.length, "card")}: ${named.join(", ")}.`;
}

/**
 * The cards' outlines, over a picture of the answer's size; numbered if there are several.
 *
 * @param {Answer} answer
 */
export function outlines({ size: [width, height], cards }) {
  const drawn = shape("svg", {
    ...{ class: "outlines", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "xMidYMid meet" },
    ...{ role: "img", "aria-label": `Outlines of ${counted(cards.length, "card")}` },
  });
  cards.forEach((card, i) => {
    if (card.quad) {
      drawn.append(outline(card, card.quad, cards.length > 1 ? i + 1 : 0, Math.max(width, height)));
    }
  });
  return drawn;
}

/**
 * @param {Card} card
 * @param {import("../recogniser/types.js").Quad} quad
 * @param {number} number 0: none
 * @param {number} side of the picture, pixels
 */
function outline(card, quad, number, side) {
  const points = quad.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  const centre = [0, 1].map((axis) => quad.reduce((sum, point) => sum + point[axis], 0) / quad.length);
  return shape(
    "g",
    { class: kind(card) },
    shape("polygon", { class: "edge", points }),
    shape("polygon", { points }),
    number > 0 &&
      shape("text", { x: centre[0].toFixed(1), y: centre[1].toFixed(1), "font-size": side / 18 }, String(number)),
  );
}

/**
 * The cards of an answer, best matches and figures.
 *
 * @param {Answer} answer
 * @param {OnOpen} onOpen
 */
export function cardList({ cards }, onOpen) {
  if (!cards.length) {
    return element(
      "div",
      { class: "none" },
      element("p", {}, element("strong", {}, "No card was found in this picture.")),
      element("p", { class: "soft" }, "Show the whole card, flat and in even light, on a plain background."),
    );
  }
  const isNumbered = cards.length > 1;
  const items = cards.map((card, i) => cardItem(card, isNumbered ? i + 1 : 0, onOpen));
  return element("ol", { class: "cards" }, ...items);
}

/**
 * @param {Card} card
 * @param {number} number 0: none
 * @param {OnOpen} onOpen
 */
function cardItem(card, number, onOpen) {
  const [best] = card.matches;
  return element(
    "li",
    { class: `found ${kind(card)}` },
    element(
      "h4",
      {},
      number > 0 && element("span", { class: "number" }, String(number)),
      element("span", { class: "name" }, nameOf(card)),
      chip(card),
    ),
    best && element("p", { class: "soft" }, setAndNumber(best.face), !isPrintingKnown(card) && " or another printing"),
    figures(card),
    element("ol", { class: "matches", "aria-label": `Best matches of ${nameOf(card)}` },
      ...card.matches.map((match) => matchItem(match, onOpen))),
    !isPrintingKnown(card) && printings(card.printings, onOpen),
  );
}

/** @param {Card} card whether it is sure, by a sign and in words */
function chip(card) {
  const sign = element("span", { "aria-hidden": "true" }, card.sure ? "✓" : "?");
  return element("span", { class: "chip" }, sign, howSure(card));
}

/** @param {Card} card */
function figures(card) {
  const known = (/** @type {number | null} */ value) => (value === null ? null : score(value));
  return factList([
    ["Score", card.matches[0] && score(card.matches[0].score)],
    ["Margin", known(card.margin)],
    ["Confidence", card.confidence === null ? null : percent(card.confidence)],
    ["Turned", card.orientation ? `${card.orientation}°` : null],
  ]);
}

/**
 * @param {Match} match
 * @param {OnOpen} onOpen
 */
function matchItem({ row, face, score: value }, onOpen) {
  return faceItem(row, face, `${printing(face)} · ${score(value)}`, onOpen);
}

/**
 * @param {Match[]} matches
 * @param {OnOpen} onOpen
 */
function printings(matches, onOpen) {
  const button = (/** @type {Match} */ { row, face }) =>
    element("button", { type: "button", class: "link", click: () => onOpen(row, face) }, setAndNumber(face));
  return element(
    "div",
    { class: "printings" },
    element("p", { class: "soft" }, `It may be any of ${counted(matches.length, "printing")}:`),
    element("ul", {}, ...matches.map((match) => element("li", {}, button(match)))),
  );
}
