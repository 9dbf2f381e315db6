/**
 * The parts of a picture that may be a card: the whole of it and what `outline` finds, each way up.
 *
 * helpers/recognise/regions.py in JavaScript, with its numbers: see there for why.
 */

import { contrast, hashOf, thumbnail } from "./dhash.js";
import { findQuads } from "./outline.js";
import { rgbOf } from "./picture.js";
import { Pyramid } from "./pyramid.js";
import { area, ASPECT_ROOM, CARD_ASPECT, length, middle, minus, overlap, rolled } from "./quads.js";

/**
 * @typedef {import("./quads.js").Corners} Corners
 * @typedef {import("./quads.js").Point} Point
 * @typedef {import("./picture.js").Pixels} Pixels
 */

export const WORKING_SIDE = 1000; // pixels: the longer side of a picture whose edges are searched
const HASHED_HEIGHT = 192; // pixels of a cut-out that is only hashed, to 17 x 16
const CUT_OFF = [1.08, 1.16]; // of a picture that has a card's shape the card's edges may be cut off
const MIN_CONTRAST = 2.0; // of 255
const SQUARE = 1.1; // heights to a width: a taller picture is, as a whole, no card that lies on its side

/** A quadrilateral of a picture, in its pixels, the card's own top left corner first. */
export class Region {
  /** @param {Corners} quad @param {boolean} whole it is the whole picture */
  constructor(quad, whole = false) {
    this.quad = quad;
    this.whole = whole;
  }

  /** By how many degrees the card is turned clockwise, to a quarter turn: 0, 90, 180, 270. */
  get orientation() {
    const [p0, p1, p2, p3] = this.quad;
    const [across, down] = [p1[0] - p0[0] + p2[0] - p3[0], p1[1] - p0[1] + p2[1] - p3[1]];
    return ((Math.round(Math.atan2(down, across) / (Math.PI / 2)) + 4) % 4) * 90;
  }

  /** Whether it has the shape of an upright card; what `outline` finds has it. */
  get cardShaped() {
    const [width, height] = [1, 3].map((corner) => length(minus(this.quad[corner], this.quad[0])));
    return !this.whole || Math.abs(Math.log(width / height / CARD_ASPECT)) < ASPECT_ROOM;
  }

  /** The same about its centre, larger; what lies outside the picture repeats its edge. @param {number} by */
  grown(by) {
    const centre = middle(this.quad);
    return new Region(this.quad.map(([x, y]) => [centre[0] + (x - centre[0]) * by, centre[1] + (y - centre[1]) * by]));
  }

  /** The area that both share, as a share of the smaller one. @param {Region} other */
  covers(other) {
    return overlap(this.quad, other.quad) / Math.max(Math.min(area(this.quad), area(other.quad)), 1e-9);
  }
}

/** A picture with its regions, and what is cut out of it. */
export class Photo {
  /** @param {any} cv OpenCV @param {ImageData} image upright and opaque */
  constructor(cv, image) {
    this.cv = cv;
    this.image = image;
    this.pyramid = new Pyramid(cv, image);
    /** @type {Pixels | undefined} */
    this.rgb = undefined;
  }

  /** The whole picture, as it is or showing a card that is turned. @param {number} orientation */
  whole(orientation = 0) {
    const { width, height } = this.image;
    return new Region(rolled([[0, 0], [width, 0], [width, height], [0, height]], -orientation / 90), true);
  }

  /**
   * The whole picture first, then all that may be a card, each of the ways up that it can have.
   *
   * @param {number} side pixels: the longer side that the picture is reduced to before its edges are searched
   */
  regions(side = WORKING_SIDE) {
    const { width, height } = this.image;
    const turns = height > SQUARE * width ? [0, 2] : [0, 1, 2, 3];
    const regions = turns.map((turn) => this.whole(turn * 90));
    const shaped = regions.filter((region) => region.cardShaped);
    regions.push(...CUT_OFF.flatMap((by) => shaped.map((region) => region.grown(by))));
    for (const quad of findQuads(this.cv, this.pyramid, side)) regions.push(new Region(quad), new Region(rolled(quad, 2)));
    return regions;
  }

  /**
   * The regions but for blank ones, each with its difference hash; the first in any case.
   *
   * @param {Region[]} regions
   */
  hashed(regions) {
    return regions
      .map((region) => ({ region, levels: thumbnail(this.cutOut(region, HASHED_HEIGHT)) }))
      .filter(({ levels }, i) => i === 0 || contrast(levels) >= MIN_CONTRAST)
      .map(({ region, levels }) => ({ region, hash: hashOf(levels) }));
  }

  /**
   * The card in `region`, upright, `height` pixels high; the whole picture keeps its own shape and size.
   *
   * @param {Region} region
   * @param {number} height
   * @returns {Pixels} RGB
   */
  cutOut(region, height) {
    if (!region.whole) return this.pyramid.straighten(region.quad, Math.round(height * CARD_ASPECT), height);
    return region.orientation ? this.#turned(region.orientation) : (this.rgb ??= rgbOf(this.image));
  }

  /** @param {number} orientation @returns {Pixels} */
  #turned(orientation) {
    const { cv } = this;
    const codes = { 90: cv.ROTATE_90_COUNTERCLOCKWISE, 180: cv.ROTATE_180, 270: cv.ROTATE_90_CLOCKWISE };
    const out = new cv.Mat();
    cv.rotate(this.pyramid.reduced(WORKING_SIDE), out, codes[/** @type {90 | 180 | 270} */ (orientation)]);
    const pixels = { data: new Uint8ClampedArray(out.data), width: out.cols, height: out.rows, channels: 3 };
    out.delete();
    return pixels;
  }

  /** Frees its memory. */
  delete() {
    this.pyramid.delete();
  }
}
