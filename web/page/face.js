/** One face, large, in a dialog: its details, and the faces that look most like it. */

import { byId, element, factList } from "./dom.js";
import { showMessage } from "./messages.js";
import { faceItem, picture } from "./pictures.js";
import { printing, score } from "./words.js";

/** @typedef {import("../recogniser/types.js").Face} Face */
/** @typedef {import("../recogniser/types.js").Recogniser} Recogniser */

const NEAREST = 12;

/**
 * @param {() => Recogniser | null} recogniser
 * @returns {(row: number, face: Face) => void} opens the dialog
 */
export function faceDialog(recogniser) {
  const dialog = byId("face", HTMLDialogElement);
  const heading = byId("face-name", HTMLElement);
  const body = byId("face-body", HTMLElement);
  let shown = -1;

  byId("face-close", HTMLButtonElement).addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) {
      dialog.close(); // the backdrop
    }
  });

  /**
   * @param {number} row
   * @param {Face} face
   */
  function open(row, face) {
    shown = row;
    const waiting = element("p", { class: "soft" }, "Comparing…");
    const near = element("div", { class: "near", "aria-busy": "true" }, waiting);
    heading.textContent = face.name;
    body.replaceChildren(
      element(
        "div",
        { class: "face" },
        picture(face, { alt: `The card ${face.name}`, eager: true }),
        element("div", {}, details(face), links(face)),
      ),
      element("h3", {}, "The nearest faces"),
      near,
    );
    if (!dialog.open) {
      dialog.showModal();
    }
    dialog.scrollTop = 0;
    heading.focus();
    showNearest(near, row);
  }

  /**
   * @param {HTMLElement} place
   * @param {number} row
   */
  async function showNearest(place, row) {
    try {
      const matches = (await recogniser()?.nearest(row, NEAREST + 1)) ?? [];
      if (shown === row) {
        const others = matches.filter((match) => match.row !== row).slice(0, NEAREST);
        place.replaceChildren(element("ol", { class: "grid small" }, ...others.map(item)));
      }
    } catch (error) {
      showMessage(place, error);
    }
    place.removeAttribute("aria-busy");
  }

  /** @param {import("../recogniser/types.js").Match} match */
  function item({ row, face, score: near }) {
    return faceItem(row, face, `${printing(face)} · score\u00a0${score(near)}`, open);
  }

  return open;
}

/** @param {Face} face */
function details(face) {
  return factList([
    ["Set", face.set_name ? `${face.set_name} (${face.set.toUpperCase()})` : face.set.toUpperCase()],
    ["Number", face.collector_number],
    ["Type", face.type_line],
    ["Artist", face.artist],
    ["Released", face.released_at],
    ["Language", face.lang],
  ]);
}

/** @param {Face} face */
function links(face) {
  const address = face.scryfall_uri ?? "";
  const isLink = /^https?:\/\//.test(address); // not javascript:
  const link = { href: address, target: "_blank", rel: "noopener" };
  return isLink && element("p", {}, element("a", link, "See it on Scryfall"));
}
