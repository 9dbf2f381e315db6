/** A picture's difference hash, bit for bit that of helpers/embed/dhash.py. */

import { resize } from "./resample.js";

/** @typedef {import("./picture.js").Pixels} Pixels */

const SIDE = 16;
export const HASH_BYTES = (SIDE * SIDE) / 8;

/**
 * What the hash is taken of: the picture's greys, uint8 [16, 17].
 *
 * @param {Pixels} picture RGB or RGBA
 */
export function thumbnail({ data, width, height, channels }) {
  const grey = new Uint8Array(width * height);
  for (let i = 0, j = 0; i < grey.length; i++, j += channels) {
    grey[i] = (data[j] * 19595 + data[j + 1] * 38470 + data[j + 2] * 7471 + 0x8000) >> 16; // Pillow's L
  }
  return resize({ data: grey, width, height, channels: 1 }, SIDE + 1, SIDE, "lanczos", "pillow").data;
}

/**
 * A bit is set where a pixel is brighter than its left neighbour; a byte's most significant bit comes first.
 *
 * @param {ArrayLike<number>} levels what `thumbnail` returned
 */
export function hashOf(levels) {
  const hash = new Uint8Array(HASH_BYTES);
  for (let bit = 0; bit < SIDE * SIDE; bit++) {
    const at = Math.floor(bit / SIDE) * (SIDE + 1) + (bit % SIDE);
    if (levels[at + 1] > levels[at]) hash[bit >> 3] |= 0x80 >> bit % 8;
  }
  return hash;
}

/**
 * How much the neighbours differ that the hash compares, on average, of 255: by one or less, that is noise.
 *
 * @param {ArrayLike<number>} levels what `thumbnail` returned
 */
export function contrast(levels) {
  let sum = 0;
  for (let bit = 0; bit < SIDE * SIDE; bit++) {
    const at = Math.floor(bit / SIDE) * (SIDE + 1) + (bit % SIDE);
    sum += Math.abs(levels[at + 1] - levels[at]);
  }
  return sum / (SIDE * SIDE);
}
