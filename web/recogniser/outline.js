/**
 * Where could a card be in a picture? All quadrilaterals that a card can make in a camera.
 *
 * helpers/recognise/finding.py in JavaScript, with its names and its numbers: see there for why.
 */

import { area, cross, dot, length, likeACard, middle, minus, MAX_RATIO, MIN_AREA, MIN_SIDE, rolled } from "./quads.js";
import { CARD_ASPECT } from "./quads.js";

/**
 * @typedef {import("./quads.js").Point} Point
 * @typedef {import("./quads.js").Corners} Corners
 * @typedef {import("./pyramid.js").Pyramid} Pyramid
 * @typedef {import("./pyramid.js").Mat} Mat
 * @typedef {[Point, Point]} Piece start and end of a straight piece of a contour
 * @typedef {{clear: number, quad: Corners, contour: Point[]}} Candidate
 */

const MAX_QUADS = 250;
const CONVEX = 0.85; // least share of its quadrilateral that a free card's contour fills
const CLEAN = 0.95; // with this share it is free for sure: straight pieces of it need not be combined
const MAX_EDGES = 28; // straight pieces of a contour that are combined: the longest
const MIN_EDGE = 16; // pixels
const [PARALLEL, CROSSING] = [0.3, 1.0]; // radians: at most between facing sides, at least between adjacent ones
const SEEN = 0.5; // least share of a partly covered card's outline that is seen; of each side, a fifth of that
const MAX_PAIRS = 6; // quadrilaterals made of the straight pieces of one contour
const BESIDE = 0.02; // lengths of a side: points of the contour so near to it make its line
const FITTED_POINTS = 400; // of a contour, evenly spread
const BEYOND = 0.15; // most of a piece that may lie outside its side: a longer line belongs to something else
const SAME = 0.02; // two quadrilaterals whose corners differ by less, in roots of their area, are one

/**
 * The candidates in `picture`, in its pixels, the clearest first; corners may lie outside.
 *
 * @param {any} cv OpenCV
 * @param {Pyramid} picture
 * @param {number} side pixels: the longer side that the picture is reduced to before its edges are searched
 * @returns {Corners[]}
 */
export function findQuads(cv, picture, side) {
  const small = picture.reduced(side);
  const [width, height] = [small.cols, small.rows];
  if (Math.min(width, height) < 2 * MIN_SIDE) return [];
  const contours = edgeMaps(cv, small).flatMap((edges) => contoursOf(cv, edges, width, height));
  const found = distinct(candidates(cv, contours, width, height));
  const [across, down] = [picture.width / width, picture.height / height];
  return found.map((quad) => quad.map(([x, y]) => /** @type {Point} */ ([x * across, y * down])));
}

// ---------------------------------------------------------------------------------------------------------- the edges

/**
 * Binary pictures whose contours outline what differs in lightness (at several strengths), hue or saturation.
 *
 * @param {any} cv
 * @param {Mat} pixels
 * @returns {Mat[]} whose contours are to be found; the reader deletes them
 */
function edgeMaps(cv, pixels) {
  const [light, redGreen, blueYellow] = channels(cv, pixels, cv.COLOR_RGB2Lab, [0, 1, 2]);
  const [saturation] = channels(cv, pixels, cv.COLOR_RGB2HSV, [1]);
  for (const mat of [redGreen, blueYellow]) cv.normalize(mat, mat, 0, 255, cv.NORM_MINMAX);
  const square = cv.Mat.ones(3, 3, cv.CV_8U);
  /** @type {Mat[]} */
  const maps = [];
  for (const [channel, low, high] of [
    [light, 10, 40],
    [light, 30, 90],
    [blueYellow, 30, 90],
    [blueYellow, 10, 40],
    [saturation, 30, 90],
  ]) {
    const edges = new cv.Mat();
    cv.Canny(channel, edges, low, high);
    cv.dilate(edges, edges, square); // closes small gaps
    maps.push(edges);
  }
  for (const channel of [light, redGreen, saturation]) {
    const [near, all] = [new cv.Mat(), new cv.Mat()];
    cv.adaptiveThreshold(channel, near, 255, cv.ADAPTIVE_THRESH_MEAN_C, cv.THRESH_BINARY_INV, 51, 7);
    cv.threshold(channel, all, 0, 255, cv.THRESH_BINARY + cv.THRESH_OTSU);
    maps.push(near, all);
  }
  for (const mat of [light, redGreen, blueYellow, saturation, square]) mat.delete();
  return maps;
}

/**
 * Some channels of the picture in another colour space, blurred.
 *
 * @param {any} cv
 * @param {Mat} pixels
 * @param {number} space
 * @param {number[]} which
 * @returns {Mat[]}
 */
function channels(cv, pixels, space, which) {
  const converted = new cv.Mat();
  cv.cvtColor(pixels, converted, space);
  const parts = new cv.MatVector();
  cv.split(converted, parts);
  const blurred = which.map((i) => {
    const [part, out] = [parts.get(i), new cv.Mat()];
    cv.GaussianBlur(part, out, new cv.Size(5, 5), 0);
    part.delete();
    return out;
  });
  converted.delete();
  parts.delete();
  return blurred;
}

/**
 * The contours that are as large as the smallest card.
 *
 * @param {any} cv
 * @param {Mat} edges deleted
 * @param {number} width
 * @param {number} height
 * @returns {Mat[]} int32 points [P, 1, 2], to be deleted
 */
function contoursOf(cv, edges, width, height) {
  const [found, hierarchy] = [new cv.MatVector(), new cv.Mat()];
  cv.findContours(edges, found, hierarchy, cv.RETR_LIST, cv.CHAIN_APPROX_NONE);
  const least = MIN_AREA * width * height;
  /** @type {Mat[]} */
  const large = [];
  for (let i = 0; i < found.size(); i++) {
    const contour = found.get(i);
    // A short one can't go around such a box: most contours are specks
    const long = (contour.rows / 2 + 1) ** 2 >= least;
    const box = long ? cv.boundingRect(contour) : { width: 0, height: 0 };
    if (Math.min(box.width, box.height) >= MIN_SIDE && box.width * box.height >= least) large.push(contour);
    else contour.delete();
  }
  for (const mat of [edges, found, hierarchy]) mat.delete();
  return large;
}

/** @param {Mat} mat of int32 or float32 points @returns {Point[]} */
function pointsOf(mat) {
  const values = mat.depth() === 4 ? mat.data32S : mat.data32F; // CV_32S
  return Array.from({ length: values.length / 2 }, (_, i) => [values[2 * i], values[2 * i + 1]]);
}

// ------------------------------------------------------------------------------------------------- from contour to quad

/**
 * The quadrilaterals that contours suggest, and how clear each is, 0..1.
 *
 * @param {any} cv
 * @param {Mat[]} contours deleted
 * @param {number} width
 * @param {number} height
 */
function candidates(cv, contours, width, height) {
  /** @type {Candidate[]} */
  const found = [];
  /** @type {Candidate[]} */
  const combined = [];
  for (const mat of contours) {
    const { filled, corners } = around(cv, mat);
    const points = pointsOf(mat);
    const contour = everyNth(points, Math.max(1, Math.floor(points.length / FITTED_POINTS)));
    const { quad, good } = likeACard(corners, width, height);
    const free = good && filled >= CONVEX;
    if (free) found.push({ clear: filled, quad, contour });
    if (!(free && filled >= CLEAN)) combined.push(...fromPieces(straightPieces(cv, mat, width, height), contour, width, height));
    mat.delete();
  }
  return [...found, ...combined]
    .map(({ clear, quad, contour }) => ({ clear, ...likeACard(fitted(cv, contour, quad), width, height) }))
    .filter(({ good }) => good);
}

/** @param {Point[]} points @param {number} n */
const everyNth = (points, n) => points.filter((_, i) => i % n === 0);

/**
 * The smallest quadrilateral around a contour, and the share of it that the contour fills; 0 if there is none.
 *
 * @param {any} cv
 * @param {Mat} contour
 * @returns {{filled: number, corners: Corners}}
 */
function around(cv, contour) {
  const [hull, polygon] = [new cv.Mat(), new cv.Mat()];
  try {
    cv.convexHull(contour, hull);
    const inside = cv.contourArea(hull);
    if (hull.rows >= 4 && inside > 0) {
      cv.approxPolyN(hull, polygon, 4, -1.0, true);
      const corners = pointsOf(polygon);
      if (corners.length === 4 && area(corners) > 0) return { filled: Math.min(1, inside / area(corners)), corners };
    }
    return { filled: 0, corners: [[0, 0], [0, 0], [0, 0], [0, 0]] };
  } finally {
    hull.delete();
    polygon.delete();
  }
}

/**
 * The longest straight pieces of a contour, not those along the picture's own edge.
 *
 * @param {any} cv
 * @param {Mat} contour
 * @param {number} width
 * @param {number} height
 * @returns {Piece[]}
 */
function straightPieces(cv, contour, width, height) {
  const polygon = new cv.Mat();
  cv.approxPolyDP(contour, polygon, Math.max(1.5, 0.003 * Math.sqrt(width * height)), true);
  const starts = pointsOf(polygon);
  polygon.delete();
  return starts
    .map((start, i) => /** @type {Piece} */ ([start, starts[(i + 1) % starts.length]]))
    .filter(([[ax, ay], [bx, by]]) => {
      const [x, y] = [Math.min(ax, bx), Math.min(ay, by)];
      return Math.max(ax, bx) >= 3 && Math.max(ay, by) >= 3 && x <= width - 4 && y <= height - 4;
    })
    .map((piece) => ({ piece, long: length(minus(piece[1], piece[0])) }))
    .filter(({ long }) => long >= MIN_EDGE)
    .sort((a, b) => b.long - a.long)
    .slice(0, MAX_EDGES)
    .map(({ piece }) => piece);
}

/**
 * The best quadrilaterals of two pairs of facing pieces, and of three pieces.
 *
 * @param {Piece[]} pieces
 * @param {Point[]} contour
 * @param {number} width
 * @param {number} height
 * @returns {Candidate[]}
 */
function fromPieces(pieces, contour, width, height) {
  const facing = facingPieces(pieces);
  // The less of an outline is seen, the less clear it is
  return [
    { share: 0.6, suggested: facingPairs(pieces, facing) },
    { share: 0.4, suggested: threeSides(pieces, facing) },
  ].flatMap(({ share, suggested }) =>
    suggested
      .map(({ seen, corners }) => ({ seen, ...likeACard(corners, width, height) }))
      .filter(({ good }) => good)
      .sort((a, b) => b.seen - a.seen)
      .slice(0, MAX_PAIRS)
      .map(({ seen, quad }) => ({ clear: 0.2 + share * seen, quad, contour })),
  );
}

/** @param {Piece} piece @returns {Point} */
function direction([start, end]) {
  const along = minus(end, start);
  const long = Math.max(length(along), 1e-9);
  return [along[0] / long, along[1] / long];
}

/** The angle between undirected lines, 0..pi/2. @param {number} one @param {number} other */
function between(one, other) {
  const turned = (one - other + Math.PI / 2) % Math.PI;
  return Math.abs((turned < 0 ? turned + Math.PI : turned) - Math.PI / 2);
}

/** @param {Piece} piece */
function angle(piece) {
  const [x, y] = direction(piece);
  return Math.atan2(y, x);
}

/**
 * Pairs of pieces that could be opposite sides of a card, and their distance.
 *
 * @param {Piece[]} pieces
 */
function facingPieces(pieces) {
  const lines = pieces.map((piece) => ({ along: direction(piece), middle: middle(piece), angle: angle(piece) }));
  /** @type {{one: number, other: number, distance: number}[]} */
  const pairs = [];
  lines.forEach((a, one) =>
    lines.slice(one + 1).forEach((b, i) => {
      const apart = minus(b.middle, a.middle);
      const distance = (Math.abs(cross(a.along, apart)) + Math.abs(cross(b.along, apart))) / 2;
      if (between(a.angle, b.angle) < PARALLEL && distance > MIN_SIDE) pairs.push({ one, other: one + 1 + i, distance });
    }),
  );
  return pairs;
}

/**
 * Where the lines through two pieces meet.
 *
 * @param {Piece} one
 * @param {Piece} other
 * @returns {Point}
 */
function crossing(one, other) {
  const [along, across] = [direction(one), direction(other)];
  let turn = cross(along, across);
  if (Math.abs(turn) < 1e-6) turn = 1e-6;
  const reach = cross(minus(other[0], one[0]), across) / turn;
  return [one[0][0] + reach * along[0], one[0][1] + reach * along[1]];
}

/**
 * How much of a side its piece covers, and how much of it lies beyond, in lengths of the side.
 *
 * @param {Piece} piece
 * @param {Point} start
 * @param {Point} end
 */
function covered(piece, start, end) {
  const side = minus(end, start);
  const long = Math.max(length(side), 1e-9);
  const places = piece.map((point) => dot(minus(point, start), side) / long ** 2);
  const [low, high] = [Math.min(...places), Math.max(...places)];
  const inside = Math.max(Math.min(Math.max(high, 0), 1) - Math.min(Math.max(low, 0), 1), 0);
  return { inside, beyond: high - low - inside };
}

/**
 * What is seen of the sides `which` of a quadrilateral whose side i runs from corner i to the next; null if too little.
 *
 * @param {Piece[]} sides
 * @param {Corners} corners
 * @param {number[]} which
 * @param {number} least of each side
 */
function outlineSeen(sides, corners, which, least) {
  const parts = which.map((i) => covered(sides[i], corners[i], corners[(i + 1) % 4]));
  const seen = parts.reduce((sum, { inside }) => sum + inside, 0) / parts.length;
  const good = seen >= SEEN && parts.every(({ inside, beyond }) => inside >= least && beyond <= BEYOND);
  return good ? seen : null;
}

/**
 * Quadrilaterals of two pairs of facing pieces, and the share of each outline that the pieces cover.
 *
 * @param {Piece[]} pieces
 * @param {ReturnType<typeof facingPieces>} facing
 */
function facingPairs(pieces, facing) {
  const angles = pieces.map(angle);
  /** @type {{seen: number, corners: Corners}[]} */
  const found = [];
  facing.forEach((first, i) => {
    for (const second of facing.slice(i + 1)) {
      const [far, near] = [Math.max(first.distance, second.distance), Math.min(first.distance, second.distance)];
      if (between(angles[first.one], angles[second.one]) <= CROSSING || far / near >= MAX_RATIO) continue;
      const sides = [first.one, second.one, first.other, second.other].map((place) => pieces[place]); // in order around
      const corners = sides.map((side, j) => crossing(sides[(j + 3) % 4], side));
      const seen = outlineSeen(sides, corners, [0, 1, 2, 3], SEEN / 5);
      if (seen !== null) found.push({ seen, corners });
    }
  });
  return found;
}

/**
 * Quadrilaterals of two facing pieces and one that crosses them, and the share that they cover.
 *
 * The fourth side, covered by something or outside the picture, is put where it would be if the card were seen straight
 * on: the seen end is a short side or a long one.
 *
 * @param {Piece[]} pieces
 * @param {ReturnType<typeof facingPieces>} facing
 */
function threeSides(pieces, facing) {
  const angles = pieces.map(angle);
  /** @type {{seen: number, corners: Corners}[]} */
  const found = [];
  for (const { one, other } of facing) {
    pieces.forEach((end, i) => {
      if (between(angles[one], angles[i]) <= CROSSING) return;
      const near = [one, other].map((side) => crossing(pieces[side], end));
      const away = [one, other].map((side, j) => {
        const along = direction(pieces[side]);
        const sign = Math.sign(dot(minus(middle(pieces[side]), near[j]), along));
        return /** @type {Point} */ ([along[0] * sign, along[1] * sign]);
      });
      const across = length(minus(near[0], near[1]));
      for (const ratio of [1 / CARD_ASPECT, CARD_ASPECT]) {
        const far = near.map(([x, y], j) => /** @type {Point} */ ([x + away[j][0] * across * ratio, y + away[j][1] * across * ratio]));
        const corners = [near[0], near[1], far[1], far[0]];
        const sides = [end, pieces[other], end, pieces[one]];
        const seen = outlineSeen(sides, corners, [0, 1, 3], SEEN / 2);
        if (seen !== null) found.push({ seen, corners });
      }
    });
  }
  return found;
}

/**
 * `quad` with a line fitted to the points of the contour that lie beside each side, not by its corners.
 *
 * A side without points stays as it is.
 *
 * @param {any} cv
 * @param {Point[]} points
 * @param {Corners} quad
 * @returns {Corners}
 */
function fitted(cv, points, quad) {
  const lines = quad.map((start, i) => {
    const side = minus(quad[(i + 1) % 4], start);
    const long = Math.max(length(side), 1e-9);
    /** @type {Point} */
    const along = [side[0] / long, side[1] / long];
    const beside = points.filter((point) => {
      const offset = minus(point, start);
      const place = dot(offset, along) / long;
      return place > 0.08 && place < 0.92 && Math.abs(cross(along, offset)) < BESIDE * long;
    });
    return beside.length < 8 ? { point: start, along } : lineThrough(cv, beside);
  });
  /** @type {Corners} */
  const corners = [];
  for (let i = 0; i < 4; i++) {
    const [before, after] = [lines[(i + 3) % 4], lines[i]];
    const turn = cross(before.along, after.along);
    if (Math.abs(turn) < 0.1) return quad;
    const reach = cross(minus(after.point, before.point), after.along) / turn;
    corners.push([before.point[0] + reach * before.along[0], before.point[1] + reach * before.along[1]]);
  }
  return corners;
}

/** @param {any} cv @param {Point[]} points @returns {{point: Point, along: Point}} */
function lineThrough(cv, points) {
  const [mat, line] = [cv.matFromArray(points.length, 1, cv.CV_32FC2, points.flat()), new cv.Mat()];
  cv.fitLine(mat, line, cv.DIST_HUBER, 0, 0.01, 0.01);
  const [alongX, alongY, x, y] = line.data32F;
  mat.delete();
  line.delete();
  return { point: [x, y], along: [alongX, alongY] };
}

/**
 * The quadrilaterals, clearest first, without those that repeat a clearer one.
 *
 * @param {{clear: number, quad: Corners}[]} found
 */
function distinct(found) {
  let left = [...found].sort((a, b) => b.clear - a.clear).map(({ quad }) => quad);
  /** @type {Corners[]} */
  const kept = [];
  while (left.length && kept.length < MAX_QUADS) {
    const quad = left[0];
    kept.push(quad);
    const near = SAME * Math.sqrt(area(quad));
    left = left.filter((other) => [quad, rolled(quad, 2)].every((turned) => apart(turned, other) >= near)); // either short side may come first
  }
  return kept;
}

/** The largest difference of a corner's x or y. @param {Corners} one @param {Corners} other */
const apart = (one, other) => Math.max(...one.flatMap((p, i) => [Math.abs(p[0] - other[i][0]), Math.abs(p[1] - other[i][1])]));
