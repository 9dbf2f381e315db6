/** Quadrilaterals and straight lines, as helpers/recognise/finding.py computes with them. Points are [x, y]. */

/**
 * @typedef {[number, number]} Point
 * @typedef {Point[]} Corners four, in order
 */

export const CARD_ASPECT = 63 / 88; // width to height of a Magic card, mm
export const ASPECT_ROOM = 0.16; // how far the aspect (its logarithm) and the right angle (its cosine) may be off
export const MIN_AREA = 0.004; // of the picture: 250 cards would fill it
export const MIN_SIDE = 24; // pixels of the reduced picture
export const MAX_RATIO = 2; // of two sides, facing or adjacent: a card's are 1.4, the rest is perspective
// Focal lengths, in longer sides of the picture: it is unknown and the picture may be a part of a photograph, so a
// quadrilateral passes if one of them explains it; the last stands for a card seen straight on.
const FOCAL_LENGTHS = [0.8, 1.2, 2.0, 4.0, 100.0];
const OUTSIDE = 0.15; // of the picture's width and height: how far outside it a corner may lie

/** @param {Point} a @param {Point} b @returns {Point} */
export const minus = (a, b) => [a[0] - b[0], a[1] - b[1]];

/** @param {Point} a @param {Point} b */
export const cross = (a, b) => a[0] * b[1] - a[1] * b[0];

/** @param {Point} a @param {Point} b */
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1];

/** @param {Point} a */
export const length = (a) => Math.hypot(a[0], a[1]);

/** @param {Point[]} points @returns {Point} */
export const middle = (points) => [
  points.reduce((sum, point) => sum + point[0], 0) / points.length,
  points.reduce((sum, point) => sum + point[1], 0) / points.length,
];

/** The same corners, beginning with another. @param {Corners} quad @param {number} by @returns {Corners} */
export const rolled = (quad, by) => quad.map((_, i) => quad[(i + by + quad.length) % quad.length]);

/** In pixels squared, of any simple polygon. @param {Point[]} polygon */
export function area(polygon) {
  let twice = 0;
  polygon.forEach((point, i) => (twice += cross(point, polygon[(i + 1) % polygon.length])));
  return Math.abs(twice) / 2;
}

/**
 * The area that two convex quadrilaterals share (Sutherland & Hodgman, Reentrant polygon clipping, 1974).
 *
 * @param {Corners} one
 * @param {Corners} other
 */
export function overlap(one, other) {
  const clip = clockwise(other);
  let left = one;
  for (let i = 0; i < 4 && left.length; i++) {
    const [start, along] = [clip[i], minus(clip[(i + 1) % 4], clip[i])];
    /** @param {Point} point */
    const inside = (point) => cross(along, minus(point, start)); // >= 0: within
    left = left.flatMap((point, j) => {
      const next = left[(j + 1) % left.length];
      const [here, there] = [inside(point), inside(next)];
      /** @type {Point[]} */
      const kept = here >= 0 ? [point] : [];
      if (here >= 0 !== there >= 0) {
        const share = here / (here - there);
        kept.push([point[0] + (next[0] - point[0]) * share, point[1] + (next[1] - point[1]) * share]);
      }
      return kept;
    });
  }
  return area(left);
}

/** In clockwise order as seen, whatever their order was. @param {Corners} quad @returns {Corners} */
export function clockwise(quad) {
  const centre = middle(quad);
  /** @param {Point} point */
  const angle = (point) => Math.atan2(point[1] - centre[1], point[0] - centre[0]);
  return [...quad].sort((a, b) => angle(a) - angle(b));
}

/**
 * The quadrilateral with a short side first, and whether a card can make it in a camera.
 *
 * @param {Corners} given
 * @param {number} width of the picture
 * @param {number} height
 * @returns {{quad: Corners, good: boolean}}
 */
export function likeACard(given, width, height) {
  let quad = clockwise(given);
  const turned = rolled(quad, 1);
  const off = unlikeACard(quad, width, height);
  const offTurned = unlikeACard(turned, width, height);
  if (offTurned < off) quad = turned;
  const sides = quad.map((corner, i) => Math.max(length(minus(quad[(i + 1) % 4], corner)), 1e-9));
  const facing = Math.max(...[0, 1].map((i) => Math.max(sides[i] / sides[i + 2], sides[i + 2] / sides[i])));
  const within = quad.every(
    ([x, y]) =>
      x > -OUTSIDE * width && y > -OUTSIDE * height && x < (1 + OUTSIDE) * width && y < (1 + OUTSIDE) * height,
  );
  const size = Math.abs(cross(minus(quad[2], quad[0]), minus(quad[3], quad[1]))) / 2;
  // One as large as the picture is the picture, which is asked in any case
  const sized = size > MIN_AREA * width * height && size < 0.99 * width * height;
  const alike = Math.min(off, offTurned) < ASPECT_ROOM;
  return { quad, good: alike && facing < MAX_RATIO && Math.min(...sides) >= MIN_SIDE && within && sized };
}

/**
 * How far it is from a picture of an upright card: the aspect's logarithm or the right angle's cosine off.
 *
 * By the homography from a square to the quadrilateral, with the principal point in the picture's centre and the best
 * of a few focal lengths (Zhang & He, Whiteboard scanning and image enhancement, 2007). Infinity if it is not convex.
 *
 * @param {Corners} quad
 * @param {number} width
 * @param {number} height
 */
function unlikeACard(quad, width, height) {
  const sides = quad.map((corner, i) => minus(quad[(i + 1) % 4], corner));
  if (!sides.every((side, i) => cross(side, sides[(i + 1) % 4]) > 0)) return Infinity;
  const [p0, p1, p2, p3] = quad.map((corner) => minus(corner, [width / 2, height / 2]));
  const [across, down] = [minus(p1, p2), minus(p3, p2)];
  const rest = minus(minus(p0, p1), minus(p3, p2));
  let turn = cross(across, down);
  if (Math.abs(turn) < 1e-9) turn = 1e-9;
  const [g, h] = [cross(rest, down) / turn, cross(across, rest) / turn]; // Heckbert, Fundamentals of texture mapping, 1989
  const right = [p1[0] - p0[0] + g * p1[0], p1[1] - p0[1] + g * p1[1]];
  const below = [p3[0] - p0[0] + h * p3[0], p3[1] - p0[1] + h * p3[1]];
  let best = Infinity;
  for (const focal of FOCAL_LENGTHS) {
    const scale = 1 / (focal * Math.max(width, height));
    const one = Math.hypot(right[0] * scale, right[1] * scale, g);
    const other = Math.hypot(below[0] * scale, below[1] * scale, h);
    const aspect = Math.abs(Math.log(one / other / CARD_ASPECT));
    const square = Math.abs((right[0] * below[0] + right[1] * below[1]) * scale * scale + g * h) / (one * other);
    const off = Math.max(aspect, square);
    if (off < best) best = off; // not if it is NaN
  }
  return best;
}
