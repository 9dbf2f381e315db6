/**
 * Pictures of whole cards: from `pictures/` beside the page if the server has them there, else from the web.
 *
 * `make serve` shows the index's image cache as `pictures/`; helpers/cards/image_cache.py makes the names.
 */

import { digest } from "../recogniser/digest.js";
import { element } from "./dom.js";

/** @typedef {import("../recogniser/types.js").Face} Face */

const FOLDER = new URL("pictures/", document.baseURI);

/** Pictures' own size on Scryfall ("normal"): room is kept for it. */
const WIDTH = 488;
const HEIGHT = 680;

/** @type {Promise<boolean> | null} whether the server has pictures */
let hasFolder = null;

/**
 * The address of a face's picture in the folder; null where no hash can be computed (an insecure context).
 *
 * @param {Face} face
 * @returns {Promise<string | null>}
 */
async function addressInFolder(face) {
  const url = face.image_url;
  if (!url.includes("://")) {
    return new URL(url, FOLDER).href.startsWith(FOLDER.href) ? new URL(url, FOLDER).href : null; // one's own pictures
  }
  if (!globalThis.crypto?.subtle) {
    return null;
  }
  const path = url.split("#")[0].split("?")[0];
  const ending = path.split("/").length > 3 ? path.slice(path.lastIndexOf(".")).toLowerCase() : "";
  const name = await digest("SHA-1", new TextEncoder().encode(url));
  return new URL(name + ([".png", ".webp"].includes(ending) ? ending : ".jpg"), FOLDER).href;
}

/** `make serve` says so in a header of each answer: without the folder, each picture would be a request in vain. */
function isFolderThere() {
  hasFolder ??= fetch(document.baseURI, { method: "HEAD" }).then(
    ({ headers }) => headers.has("X-Pictures"),
    () => false,
  );
  return hasFolder;
}

/** @param {string} url */
const isWeb = (url) => /^(https?|blob|data):/.test(url);

/**
 * Where a face's picture may be, best first.
 *
 * @param {Face} face
 */
async function addresses(face) {
  const own = await addressInFolder(face);
  const found = own !== null && (await isFolderThere()) ? [own] : [];
  return isWeb(face.card_url) ? [...found, face.card_url] : found;
}

/**
 * A face's picture; in its place the name while there is none.
 *
 * @param {Face} face
 * @param {{alt?: string, eager?: boolean}} [options] alt: "" beside the face's name
 */
export function picture(face, { alt = face.name, eager = false } = {}) {
  const frame = element("span", { class: "picture" });
  addresses(face).then((left) => {
    const image = element("img", {
      ...{ alt, width: WIDTH, height: HEIGHT, decoding: "async", referrerpolicy: "no-referrer" },
      ...(eager ? {} : { loading: "lazy" }),
    });
    const next = () => {
      const address = left.shift();
      if (address) {
        image.src = address;
      } else {
        frame.replaceChildren(placeholder(face, alt));
      }
    };
    image.addEventListener("error", next);
    frame.append(image);
    next();
  });
  return frame;
}

/**
 * A face in a list: a button with its picture, name and a note.
 *
 * @param {number} row
 * @param {Face} face
 * @param {string} note
 * @param {(row: number, face: Face) => void} onOpen it was chosen
 */
export function faceItem(row, face, note, onOpen) {
  return element(
    "li",
    {},
    element(
      "button",
      { type: "button", class: "card", "data-row": row, click: () => onOpen(row, face) },
      picture(face, { alt: "" }),
      element("span", { class: "name" }, face.name),
      element("span", { class: "soft" }, note),
    ),
  );
}

/**
 * @param {Face} face
 * @param {string} alt
 */
function placeholder(face, alt) {
  return element("span", { class: "placeholder", "aria-hidden": alt === "" && "true" }, face.name);
}
