/** Identify pictures: dropped, pasted or chosen, one after another. */

import { cardList, outlines, sentence } from "./answers.js";
import { byId, element } from "./dom.js";
import { showMessage } from "./messages.js";

/** @typedef {import("../recogniser/types.js").Answer} Answer */
/** @typedef {import("../recogniser/types.js").Recogniser} Recogniser */

/**
 * @param {object} needs
 * @param {() => Promise<Recogniser>} needs.recogniser resolves when pictures can be identified
 * @param {(card: import("../recogniser/types.js").Card) => void} needs.onSure
 * @param {import("./answers.js").OnOpen} needs.onOpen
 * @returns {{take: (files: Blob[]) => Promise<void>, clear: () => void}}
 */
export function identifyView({ recogniser, onSure, onOpen }) {
  const place = byId("answers", HTMLElement);
  const status = byId("identify-status", HTMLElement);
  /** @type {string[]} */
  let addresses = [];
  let batch = 0;

  function clear() {
    batch += 1;
    addresses.forEach((address) => URL.revokeObjectURL(address));
    addresses = [];
    place.replaceChildren();
    status.textContent = "";
  }

  /** @param {Blob[]} pictures */
  async function take(pictures) {
    clear();
    const mine = batch;
    const parts = pictures.map((picture) => {
      const address = URL.createObjectURL(picture);
      addresses.push(address);
      return answerPart(picture, address);
    });
    place.append(...parts.map(({ whole }) => whole));
    for (const [i, picture] of pictures.entries()) {
      status.textContent = pictures.length > 1 ? `Picture ${i + 1} of ${pictures.length}…` : "Looking for cards…";
      try {
        const answer = await (await recogniser()).identify(picture);
        if (mine !== batch) {
          return;
        }
        parts[i].show(answer, onOpen);
        status.textContent = sentence(answer);
        answer.cards.filter((card) => card.sure).forEach(onSure);
      } catch (error) {
        if (mine !== batch) {
          return;
        }
        parts[i].fail(error);
        status.textContent = "";
      }
    }
  }

  return { take, clear };
}

/**
 * A picture and the place of its answer.
 *
 * @param {Blob} picture
 * @param {string} address
 */
function answerPart(picture, address) {
  const name = picture instanceof File && picture.name ? picture.name : "Picture";
  const stage = element("div", { class: "stage" }, element("img", { src: address, alt: name, decoding: "async" }));
  const beside = element("div", { class: "beside" }, element("p", { class: "waiting" }, "Waiting…"));
  const whole = element(
    "article",
    { class: "answer", "aria-busy": "true" },
    element("h3", {}, name),
    element("div", { class: "pair" }, stage, beside),
  );
  return {
    whole,
    /**
     * @param {Answer} answer
     * @param {import("./answers.js").OnOpen} onOpen
     */
    show(answer, onOpen) {
      whole.classList.toggle("wide", answer.size[0] > answer.size[1] * 1.1);
      stage.append(outlines(answer));
      beside.replaceChildren(cardList(answer, onOpen));
      whole.removeAttribute("aria-busy");
    },
    /** @param {unknown} error */
    fail(error) {
      showMessage(beside, error);
      whole.removeAttribute("aria-busy");
    },
  };
}

/**
 * Pictures from the whole page: dropped anywhere, pasted, or chosen.
 *
 * @param {(files: File[]) => void} onPictures
 */
export function pictureSources(onPictures) {
  const input = byId("files", HTMLInputElement);
  const hint = byId("drop-hint", HTMLElement);
  const offer = (/** @type {FileList | undefined} */ files) => {
    const pictures = Array.from(files ?? []);
    if (pictures.length) {
      onPictures(pictures);
    }
  };
  byId("choose", HTMLButtonElement).addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    offer(input.files ?? undefined);
    input.value = ""; // so that the same file can be chosen again
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) {
      event.preventDefault();
      offer(event.clipboardData.files);
    }
  });
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) {
      event.preventDefault();
      hint.hidden = false;
    }
  });
  addEventListener("dragleave", (event) => {
    hint.hidden ||= event.relatedTarget === null; // the pointer has left the page
  });
  addEventListener("drop", (event) => {
    hint.hidden = true;
    if (hasFiles(event)) {
      event.preventDefault();
      offer(event.dataTransfer?.files);
    }
  });
}
