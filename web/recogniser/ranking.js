/**
 * Which cards are nearest to a cut-out, by vector and hash, and how clear is that?
 *
 * helpers/recognise/ranking.py in JavaScript: score = cosine - hash_weight x share of differing bits.
 */

/**
 * @typedef {import("./types.js").Recognition} Recognition
 * @typedef {import("./types.js").Face} Face
 * @typedef {import("./vectors.js").Vectors} Vectors
 * @typedef {{mean: Float32Array, axes: Float32Array}} Whitening mean [D], axes [D, K] row-major
 *
 * @typedef {object} Ranking the candidates for one cut-out, best first
 * @property {number[]} rows
 * @property {number[]} scores
 * @property {number | null} margin from the best score to that of the best other name; null if there is no other
 * @property {number | null} gap to the mean of the ten best other names
 * @property {boolean | null} sure
 * @property {boolean | null} likely
 * @property {number} strength to compare cut-outs of one picture
 */

const CANDIDATES = 64; // rows that each signature proposes
const HASH_BITS = 256;
const OTHER_NAMES = 10; // whose mean the gap is measured to
const LIKELY = 0.5; // of what `sure` asks for: with less, a region beside a better one is not taken for a card

export class Ranker {
  /**
   * @param {Vectors} vectors the rows as `whitening` maps them, with their hashes, if the index has any
   * @param {(row: number) => Face} face
   * @param {Recognition} settings
   * @param {Whitening | null} whitening
   */
  constructor(vectors, face, settings, whitening) {
    this.vectors = vectors;
    this.face = face;
    this.settings = settings;
    this.whitening = whitening;
  }

  /**
   * @param {Float32Array} vector [D], of norm 1, as the encoder makes it
   * @param {Uint8Array} hash [32]
   */
  rank(vector, hash) {
    const mapped = this.mapped(vector);
    const proposed = [...this.vectors.nearest(mapped, CANDIDATES).rows];
    if (this.vectors.hashed) proposed.push(...this.vectors.nearestHashes(hash, CANDIDATES).rows);
    const rows = [...new Set(proposed)].sort((a, b) => a - b);
    const cosines = this.vectors.cosines(rows, mapped);
    const bits = this.vectors.hashed ? this.vectors.distances(rows, hash) : null;
    const { hash_weight: weight } = this.settings;
    return this.order(rows, rows.map((_, i) => cosines[i] - (bits ? (weight * bits[i]) / HASH_BITS : 0)));
  }

  /** @param {Float32Array} vector @returns {Float32Array} of norm 1 */
  mapped(vector) {
    if (!this.whitening) return vector;
    const { mean, axes } = this.whitening;
    const width = axes.length / mean.length;
    const sums = new Float64Array(width);
    for (let i = 0, at = 0; i < mean.length; i++) {
      const value = vector[i] - mean[i];
      for (let k = 0; k < width; k++, at++) sums[k] += value * axes[at];
    }
    return unit(sums);
  }

  /**
   * The rows by score, and how far the best name is from others.
   *
   * @param {number[]} rows
   * @param {number[]} scores
   * @returns {Ranking}
   */
  order(rows, scores) {
    const order = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a]);
    const [byScore, best] = [order.map((i) => rows[i]), order.map((i) => scores[i])];
    /** @type {Map<string, number>} each name's best score */
    const names = new Map();
    byScore.forEach((row, i) => {
      const { name } = this.face(row);
      if (!names.has(name)) names.set(name, best[i]);
    });
    const others = [...names.values()].slice(1, 1 + OTHER_NAMES);
    const margin = others.length ? best[0] - others[0] : null;
    const gap = others.length ? best[0] - others.reduce((sum, score) => sum + score, 0) / others.length : null;
    const clear = margin === null || gap === null ? null : margin + gap;
    const from = this.settings.sure_above;
    return {
      rows: byScore,
      scores: best,
      margin,
      gap,
      sure: clear === null ? null : clear >= from,
      likely: clear === null ? null : clear >= LIKELY * from,
      strength: (best[0] ?? 0) + (margin ?? 0) + (gap ?? 0),
    };
  }

  /**
   * How likely the best name is right, 0..1; null if there is no other name.
   *
   * @param {Ranking} ranking
   */
  confidence({ margin, gap }) {
    if (margin === null || gap === null) return null;
    return 1 / (1 + Math.exp(-this.settings.slope * (margin + gap - this.settings.even)));
  }

  /**
   * The places in a ranking, of at least one row, of the best name's faces that a card may be: those whose scores are so
   * near to the best one's that they can't be told apart by looks.
   *
   * @param {Ranking} ranking
   */
  printings({ rows, scores }) {
    const { name } = this.face(rows[0]);
    const own = rows.map((_, i) => i).filter((i) => this.face(rows[i]).name === name);
    return own.filter((i) => scores[0] - scores[i] <= this.settings.printing_reach);
  }
}

/** @param {ArrayLike<number>} values @returns {Float32Array} of norm 1 */
export function unit(values) {
  const norm = Math.hypot(...Array.from(values)) || 1;
  return Float32Array.from(values, (value) => value / norm);
}
