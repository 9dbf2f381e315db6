/** Picture -> square canvas -> the encoder's input, as helpers/embed/preprocess.py prepares a picture for torch. */

import { resize, roundHalfEven } from "./resample.js";

/**
 * @typedef {import("./picture.js").Pixels} Pixels
 * @typedef {import("./types.js").Preprocessing} Preprocessing
 */

/**
 * The picture on the model's input size: RGB uint8 [side, side, 3].
 *
 * @param {Pixels} picture RGB
 * @param {Preprocessing} how
 * @returns {Pixels}
 */
export function prepared(picture, how) {
  const canvas = onCanvas(picture, how);
  const filter = /** @type {"bicubic" | "bilinear"} */ (how.input.interpolation);
  return resize(canvas, how.input.size[1], how.input.size[0], filter, "torch");
}

/**
 * The encoder's input: float32 [3, height, width], with the mean subtracted and divided by the deviation.
 *
 * @param {Pixels} picture what `prepared` returned
 * @param {Preprocessing} how
 */
export function tensorOf({ data, width, height }, { input: { mean, std } }) {
  const size = width * height;
  const tensor = new Float32Array(3 * size);
  for (let channel = 0; channel < 3; channel++) {
    const [off, by] = [mean[channel], std[channel]];
    for (let i = 0; i < size; i++) tensor[channel * size + i] = (data[3 * i + channel] / 255 - off) / by;
  }
  return tensor;
}

/**
 * @param {Pixels} picture
 * @param {Preprocessing} how
 * @returns {Pixels}
 */
function onCanvas(picture, { target_size: size, fit, background, interpolation }) {
  const filter = /** @type {"bicubic" | "bilinear"} */ (interpolation);
  const { width, height } = picture;
  if (fit === "crop") {
    const side = Math.min(width, height);
    return resize(cropped(picture, (width - side) >> 1, (height - side) >> 1, side), size, size, filter, "torch");
  }
  const inside = [
    height > width ? Math.max(1, roundHalfEven((width / height) * size)) : size,
    height > width ? size : Math.max(1, roundHalfEven((height / width) * size)),
  ];
  const [left, top] = inside.map((length) => roundHalfEven((size - length) / 2));
  const small = resize(picture, inside[0], inside[1], filter, "torch");
  const data = new Uint8ClampedArray(size * size * 3);
  for (let i = 0; i < data.length; i++) data[i] = background[i % 3];
  for (let y = 0; y < inside[1]; y++) {
    data.set(small.data.subarray(y * inside[0] * 3, (y + 1) * inside[0] * 3), ((top + y) * size + left) * 3);
  }
  return { data, width: size, height: size, channels: 3 };
}

/**
 * @param {Pixels} picture
 * @param {number} left
 * @param {number} top
 * @param {number} side
 * @returns {Pixels}
 */
function cropped({ data, width, channels }, left, top, side) {
  const out = new Uint8ClampedArray(side * side * channels);
  for (let y = 0; y < side; y++) {
    const start = ((top + y) * width + left) * channels;
    out.set(data.subarray(start, start + side * channels), y * side * channels);
  }
  return { data: out, width: side, height: side, channels };
}
