/** Pictures as the recogniser sees them: upright, opaque, RGB, with the pixels that Pillow decodes. */

import { RecogniserError } from "./errors.js";

/** @typedef {{data: Uint8Array | Uint8ClampedArray, width: number, height: number, channels: number}} Pixels row-major */

const MAX_PIXELS = 120e6; // of a picture: a card is large enough in a tenth of it
const MAX_CANVAS = 2 ** 24; // pixels that every browser's canvas holds; those of iOS hold no more

/**
 * Decode a file's bytes, or take the pixels of what is decoded: RGBA, opaque on `background`.
 *
 * A file is turned as its EXIF data says, and its colour profile is ignored: so does Pillow. `scale`: the picture's own
 * pixels to one of `image`, 1 unless a canvas can't hold the picture. RecogniserError: bad-picture.
 *
 * @param {Blob | ImageBitmap | ImageData} picture
 * @param {[number, number, number]} background behind transparent pixels, RGB
 * @returns {Promise<{image: ImageData, scale: number}>}
 */
export async function pixelsOf(picture, background) {
  const bitmap = picture instanceof ImageBitmap ? picture : await decoded(picture);
  try {
    const size = bitmap.width * bitmap.height;
    if (size > MAX_PIXELS) throw badPicture(`${bitmap.width} x ${bitmap.height} pixels are too many`);
    for (const share of [1, Math.sqrt(MAX_CANVAS / size)]) {
      const image = drawn(bitmap, share, background);
      if (image) return { image, scale: bitmap.width / image.width };
    }
    throw badPicture(`this browser can't draw ${bitmap.width} x ${bitmap.height} pixels`);
  } finally {
    if (bitmap !== picture) bitmap.close();
  }
}

/**
 * @param {ImageBitmap} bitmap
 * @param {number} share of its width and height
 * @param {[number, number, number]} background
 * @returns {ImageData | null} null: the canvas is too large here
 */
function drawn(bitmap, share, background) {
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.floor(side * Math.min(1, share))));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) return null;
  try {
    context.fillStyle = `rgb(${background.join(",")})`;
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0, width, height);
    const image = context.getImageData(0, 0, width, height);
    return image.data[3] === 255 ? image : null; // on a canvas that is too large nothing is drawn
  } catch {
    return null;
  }
}

/** @param {Blob | ImageData} picture */
async function decoded(picture) {
  try {
    return await createImageBitmap(picture, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch (error) {
    throw badPicture(String(error instanceof Error ? error.message : error));
  }
}

/** @param {string} details */
function badPicture(details) {
  const suggestion = "Use one that a browser shows: JPEG, PNG, WebP, AVIF, GIF.";
  return new RecogniserError("bad-picture", "This picture can't be opened", details, suggestion);
}

/**
 * @param {ImageData} image
 * @returns {Pixels} RGB
 */
export function rgbOf({ data, width, height }) {
  const rgb = new Uint8ClampedArray(width * height * 3);
  for (let i = 0, j = 0; i < data.length; i += 4, j += 3) {
    rgb[j] = data[i];
    rgb[j + 1] = data[i + 1];
    rgb[j + 2] = data[i + 2];
  }
  return { data: rgb, width, height, channels: 3 };
}
