/**
 * Pictures resized to the very pixels that Pillow and torch make of them, which no canvas does.
 *
 * Both shrink with antialiasing in two passes, across and down, in whole numbers: the weights are rounded, and each pass
 * gives uint8. They differ in how finely they round: Pillow to 22 bits (`Image.resize`, libImaging/Resample.c), torch
 * to what fits into 16 (`interpolate(..., antialias=True)` of uint8, aten/native/cpu/UpSampleKernel.cpp).
 */

/** @typedef {{support: number, weight: (x: number) => number}} Filter */

/** @type {Record<"bilinear" | "bicubic" | "lanczos", Filter>} */
export const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: cubic },
  lanczos: { support: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
};
const PILLOW_BITS = 22;
const TORCH_MAX_WEIGHT = 1 << 15;

/** @param {number} x */
function cubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** @param {number} x */
function sinc(x) {
  if (x === 0) return 1;
  x *= Math.PI;
  return Math.sin(x) / x;
}

/**
 * @typedef {"pillow" | "torch"} Rounding whose
 * @typedef {import("./picture.js").Pixels} Picture
 */

/**
 * @typedef {object} Weights what each of `to` pixels is made of
 * @property {Int32Array} starts [to]
 * @property {Int32Array} counts [to]
 * @property {Int32Array} whole [to, size], times 2^bits
 * @property {number} size
 * @property {number} bits
 */

/** @type {Map<string, Weights>} those of the last sizes: hundreds of cut-outs have one */
const kept = new Map();
const MAX_KEPT = 32;

/**
 * @param {number} from
 * @param {number} to
 * @param {keyof typeof FILTERS} filter
 * @param {Rounding} as
 */
function weightsOf(from, to, filter, as) {
  const key = [from, to, filter, as].join();
  const found = kept.get(key) ?? madeWeights(from, to, FILTERS[filter], as);
  if (kept.size >= MAX_KEPT) kept.clear();
  kept.set(key, found);
  return found;
}

/**
 * @param {number} from
 * @param {number} to
 * @param {Filter} filter
 * @param {Rounding} as
 * @returns {Weights}
 */
function madeWeights(from, to, filter, as) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  const size = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(to);
  const counts = new Int32Array(to);
  const weights = new Float64Array(to * size);
  for (let i = 0; i < to; i++) {
    const centre = scale * (i + 0.5);
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(from, Math.trunc(centre + support + 0.5)) - start;
    let total = 0;
    for (let j = 0; j < count; j++) {
      const weight = filter.weight((start + j - centre + 0.5) / stretch);
      weights[i * size + j] = weight;
      total += weight;
    }
    if (total !== 0) for (let j = 0; j < count; j++) weights[i * size + j] /= total;
    starts[i] = start;
    counts[i] = count;
  }
  const bits = as === "pillow" ? PILLOW_BITS : torchBits(weights);
  const whole = Int32Array.from(weights, (w) => Math.trunc(w * 2 ** bits + (w < 0 ? -0.5 : 0.5)));
  return { starts, counts, whole, size, bits };
}

/** How many bits leave the largest weight within int16. @param {Float64Array} weights */
function torchBits(weights) {
  const largest = weights.reduce((a, b) => Math.max(a, b), 0);
  let bits = 0;
  while (bits < PILLOW_BITS && Math.trunc(0.5 + largest * 2 ** (bits + 1)) < TORCH_MAX_WEIGHT) bits++;
  return bits;
}

/**
 * Resize uint8 [height, width, channels], row-major.
 *
 * @param {Picture} picture
 * @param {number} width
 * @param {number} height
 * @param {keyof typeof FILTERS} filter
 * @param {Rounding} as
 */
export function resize(picture, width, height, filter, as) {
  // Pillow from 13 on goes down first where the height shrinks much more; each pass rounds, so the order shows
  const lower = picture.height - height;
  const isDownFirst = as === "pillow" && lower > 0 && lower > 2 * (picture.width - width);
  /** @param {Picture} from @returns {Picture} */
  const narrowed = (from) =>
    from.width === width ? from : { ...from, width, data: across(from, weightsOf(from.width, width, filter, as)) };
  /** @param {Picture} from @returns {Picture} */
  const lowered = (from) =>
    from.height === height ? from : { ...from, height, data: down(from, weightsOf(from.height, height, filter, as)) };
  return isDownFirst ? narrowed(lowered(picture)) : lowered(narrowed(picture));
}

/**
 * @param {Picture} picture
 * @param {Weights} weights
 */
function across({ data, width, height, channels }, { starts, counts, whole, size, bits }) {
  const half = 1 << (bits - 1);
  const out = new Uint8ClampedArray(height * starts.length * channels);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < starts.length; x++) {
      const first = (y * width + starts[x]) * channels;
      const own = x * size;
      const count = counts[x];
      for (let c = 0; c < channels; c++) {
        let sum = half;
        for (let j = 0, p = first + c; j < count; j++, p += channels) sum += data[p] * whole[own + j];
        out[at++] = sum >> bits;
      }
    }
  }
  return out;
}

/**
 * @param {Picture} picture
 * @param {Weights} weights
 */
function down({ data, width, channels }, { starts, counts, whole, size, bits }) {
  const line = width * channels;
  const out = new Uint8ClampedArray(starts.length * line);
  const sums = new Int32Array(line);
  for (let y = 0; y < starts.length; y++) {
    sums.fill(1 << (bits - 1));
    for (let j = 0; j < counts[y]; j++) {
      const weight = whole[y * size + j];
      const first = (starts[y] + j) * line;
      for (let x = 0; x < line; x++) sums[x] += data[first + x] * weight;
    }
    for (let x = 0; x < line; x++) out[y * line + x] = sums[x] >> bits;
  }
  return out;
}

/** To the nearest whole number, ties to the even one, as Python rounds. @param {number} x */
export function roundHalfEven(x) {
  const down = Math.floor(x);
  if (x - down !== 0.5) return Math.round(x);
  return down % 2 ? down + 1 : down;
}
