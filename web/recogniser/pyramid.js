/** A picture and its halves, for cutting quadrilaterals out of it without aliasing. */

import { length, MIN_SIDE, minus } from "./quads.js";
import { roundHalfEven } from "./resample.js";

/**
 * @typedef {import("./quads.js").Corners} Corners
 * @typedef {import("./picture.js").Pixels} Pixels
 * @typedef {any} Mat OpenCV's; it lies in WASM memory until it is deleted
 */

export class Pyramid {
  /**
   * @param {any} cv OpenCV
   * @param {ImageData} image
   */
  constructor(cv, image) {
    this.cv = cv;
    /** @type {Mat[]} */
    this.levels = [new cv.Mat()];
    /** @type {Map<number, Mat>} by their longer side */
    this.sizes = new Map();
    const rgba = cv.matFromImageData(image);
    try {
      cv.cvtColor(rgba, this.levels[0], cv.COLOR_RGBA2RGB);
      while (Math.min(this.#last.rows, this.#last.cols) >= 2 * MIN_SIDE) {
        this.levels.push(this.#resized(this.#last, this.#last.cols >> 1, this.#last.rows >> 1));
      }
    } catch (error) {
      this.delete(); // there is too little memory: later pictures need it
      throw error;
    } finally {
      rgba.delete();
    }
  }

  get #last() {
    return this.levels[this.levels.length - 1];
  }

  get width() {
    return this.levels[0].cols;
  }

  get height() {
    return this.levels[0].rows;
  }

  /** @param {Mat} level @param {number} width @param {number} height */
  #resized(level, width, height) {
    const out = new this.cv.Mat();
    this.cv.resize(level, out, new this.cv.Size(width, height), 0, 0, this.cv.INTER_AREA);
    return out;
  }

  /** The picture with its longer side reduced to at most `side` pixels. @param {number} side @returns {Mat} ours to delete */
  reduced(side) {
    const made = this.sizes.get(side) ?? this.#reducedTo(side);
    this.sizes.set(side, made);
    return made;
  }

  /** @param {number} side @returns {Mat} */
  #reducedTo(side) {
    const share = Math.min(1, side / Math.max(this.width, this.height));
    if (share === 1) return this.levels[0].clone();
    const near = this.levels.findLast((level) => Math.max(level.rows, level.cols) >= side);
    const [width, height] = [this.width, this.height].map((all) => Math.max(1, roundHalfEven(all * share)));
    return this.#resized(near, width, height);
  }

  /**
   * What lies within `quad` as a rectangle; its first corner is top left.
   *
   * @param {Corners} quad
   * @param {number} width
   * @param {number} height
   * @returns {Pixels} RGB
   */
  straighten(quad, width, height) {
    const { cv } = this;
    const tall = (length(minus(quad[3], quad[0])) + length(minus(quad[2], quad[1]))) / 2;
    const at = Math.min(Math.max(0, Math.trunc(Math.log2(Math.max(tall / height, 1)))), this.levels.length - 1);
    const level = this.levels[at];
    const [across, down] = [level.cols / this.width, level.rows / this.height];
    // A pixel's centre is at a whole number for OpenCV
    const source = cv.matFromArray(4, 1, cv.CV_32FC2, quad.flatMap(([x, y]) => [x * across - 0.5, y * down - 0.5]));
    const corners = [0, 0, width, 0, width, height, 0, height].map((value) => value - 0.5);
    const target = cv.matFromArray(4, 1, cv.CV_32FC2, corners);
    const matrix = cv.getPerspectiveTransform(source, target);
    const out = new cv.Mat();
    const size = new cv.Size(width, height);
    cv.warpPerspective(level, out, matrix, size, cv.INTER_LINEAR, cv.BORDER_REPLICATE, new cv.Scalar());
    const data = new Uint8ClampedArray(out.data);
    for (const mat of [source, target, matrix, out]) mat.delete();
    return { data, width, height, channels: 3 };
  }

  /** Frees its memory. */
  delete() {
    for (const mat of [...this.levels, ...this.sizes.values()]) mat.delete();
  }
}
