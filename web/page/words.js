/** Numbers and cards in words, as all views write them. */

/** @typedef {import("../recogniser/types.js").Face} Face */
/** @typedef {import("../recogniser/types.js").Card} Card */

const COUNT = new Intl.NumberFormat("en");

/** @param {number} value */
export const count = (value) => COUNT.format(value);

/**
 * @param {number} number
 * @param {string} one
 * @param {string} [many]
 */
export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** @param {number} bytes in MB of 1,000,000 bytes, or KB if there are few */
export const size = (bytes) =>
  bytes < 1e5 ? `${Math.ceil(bytes / 1000)} KB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

/** @param {number} value a cosine, or what it becomes with the hash: that can be negative */
export const score = (value) => value.toFixed(3).replace("-", "\u2212");

/** @param {number} share 0..1; only what is whole is called 100 % */
export const percent = (share) => (share > 0.99 && share < 1 ? "> 99 %" : `${Math.round(share * 100)} %`);

/** @param {Date} time "2026-11-26 16:20:05", of this device's clock */
export const dateAndTime = (time) => {
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
};

/** @param {Pick<Face, "set" | "collector_number">} face "DWA 7", on one line */
export const printing = (face) => [face.set.toUpperCase(), face.collector_number].filter(Boolean).join("\u00a0");

/** @param {Face} face "Drawn Beginnings · DWA 7" */
export const setAndNumber = (face) => (face.set_name ? `${face.set_name} · ${printing(face)}` : printing(face));

/** @param {Card} card */
export function howSure(card) {
  if (card.sure === null) {
    return "Can't tell";
  }
  return card.sure ? "Sure" : "Not sure";
}

/**
 * Whether one printing is meant: the only one that it may be, or the one it is.
 *
 * @param {Card} card
 */
export const isPrintingKnown = (card) => card.printingSure === true || card.printings.length <= 1;
