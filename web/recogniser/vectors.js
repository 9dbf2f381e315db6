/**
 * The index's rows in one piece of memory, and searches of it: int8 vectors by their cosine, difference hashes by the
 * bits that differ. By a WebAssembly SIMD kernel (kernel.wat), else by plain JavaScript with the same results.
 */
import { littleMemory } from "./bundle.js";

/**
 * @typedef {object} Kernel the loops over rows; addresses and counts in bytes and rows
 * @property {(row: number, rows: number, width: number, query: number, scores: number) => void} dots
 * @property {(hash: number, rows: number, query: number, scores: number) => void} likenesses
 * @property {(scores: number, from: number, count: number, least: number) => number} next
 *
 * @typedef {object} Nearest the rows that are nearest, best first; of equal ones the smaller row first
 * @property {Int32Array} rows
 * @property {Float32Array} scores cosines
 *
 * @typedef {object} VectorsOptions
 * @property {number} count N, the rows there will be
 * @property {number} width K, the numbers of a row
 * @property {number} scale a row's numbers are its int8 divided by this
 * @property {boolean} [hashes] whether there are hashes as well (default: true)
 * @property {BufferSource | null} [kernel] kernel.wasm; null: plain JavaScript (default: fetched, if SIMD works here)
 */

const HASH_BYTES = 32;
const STEP = 16; // numbers of a row that the kernel takes at a time; a query ends in zeros
const GROUP = 4; // rows that the kernel takes at a time; a table's end is filled up
const BLOCK = 4096; // rows that are scored at a time: their scores stay in the processor's first cache
const PAGE = 65536; // bytes, of WebAssembly memory
const SLACK = 64; // bytes behind a table that the kernel may read
/** How many bits of a byte are set. */
const BITS = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);
const MOST_SUM = 2 ** 24 - 1; // see `quantised`

/** The smallest module that needs SIMD: a function that splats 0 and counts its bits (i32.const, i8x16.splat, popcnt). */
const SIMD_PROBE = new Uint8Array([
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0],
  ...[10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11],
]);

/** Whether WebAssembly SIMD works here. */
export function hasSimd() {
  return typeof WebAssembly === "object" && WebAssembly.validate(SIMD_PROBE);
}

/**
 * Room for an index's rows, all of which is taken at once. RecogniserError: little-memory.
 *
 * @param {VectorsOptions} options
 */
export async function createVectors(options) {
  const code = options.kernel === undefined ? await fetchedKernel() : options.kernel;
  const { total } = layout(options);
  if (!code) return new Vectors(options, allocated(total), undefined);
  const memory = allocatedMemory(total);
  try {
    const { instance } = await WebAssembly.instantiate(code, { env: { memory } });
    return new Vectors(options, memory.buffer, /** @type {Kernel} */ (/** @type {unknown} */ (instance.exports)));
  } catch (error) {
    if (!(error instanceof WebAssembly.CompileError)) throw error;
    return new Vectors(options, memory.buffer, undefined); // not SIMD as we know it, or a policy forbids it
  }
}

/** Rows [N, K] and hashes [N, 32]. Made by createVectors. */
export class Vectors {
  /**
   * @param {VectorsOptions} options
   * @param {ArrayBuffer} buffer
   * @param {Kernel | undefined} kernel
   */
  constructor({ count, width, scale, hashes = true }, buffer, kernel) {
    this.count = count;
    this.width = width;
    this.scale = scale;
    /** Whether the SIMD kernel is at work. Plain JavaScript takes about ten times as long. */
    this.simd = kernel !== undefined;
    /** @type {Kernel} */
    this.kernel = kernel ?? plainKernel(buffer);
    this.buffer = buffer;
    this.at = layout({ count, width, scale, hashes });
    this.query = new Int16Array(buffer, this.at.query, upTo(STEP, width));
    this.scores = new Int32Array(buffer, this.at.scores, BLOCK);
    this.hashQuery = new Uint8Array(buffer, this.at.hashQuery, HASH_BYTES);
    /** Rows that have been appended. */
    this.length = 0;
    /** Hashes that have been appended. */
    this.hashed = 0;
  }

  /**
   * Where rows lie, or will: for who fills them in without a copy, and then appends what it has filled in.
   *
   * @param {[number, number]} rows first and one past the last
   */
  room([begin, end]) {
    return new Uint8Array(this.buffer, this.at.rows + begin * this.width, (end - begin) * this.width);
  }

  /**
   * The same of hashes.
   *
   * @param {[number, number]} rows
   */
  roomForHashes([begin, end]) {
    return new Uint8Array(this.buffer, this.at.hashes + begin * HASH_BYTES, (end - begin) * HASH_BYTES);
  }

  /**
   * Add the next rows; only those that were added are searched.
   *
   * @param {Uint8Array | Int8Array} bytes int8 [n, K]
   */
  append(bytes) {
    const end = this.length + bytes.length / this.width;
    place(bytes, this.room([this.length, end]));
    this.length = end;
  }

  /**
   * Add the next hashes.
   *
   * @param {Uint8Array} bytes uint8 [n, 32]
   */
  appendHashes(bytes) {
    const end = this.hashed + bytes.length / HASH_BYTES;
    place(bytes, this.roomForHashes([this.hashed, end]));
    this.hashed = end;
  }

  /**
   * The rows with the largest cosines to a query, to 16 bits of it (`cosines` has them exactly).
   *
   * @param {Float32Array} query [K], of norm 1
   * @param {number} count
   * @returns {Nearest}
   */
  nearest(query, count) {
    const factor = quantised(query, this.query) * this.scale;
    const { at, width } = this;
    const best = this.best(this.length, count, (begin, rows) => {
      this.kernel.dots(at.rows + begin * width, rows, width, at.query, at.scores);
    });
    return { rows: best.rows, scores: Float32Array.from(best.scores, (score) => score / factor) };
  }

  /**
   * The rows whose hashes differ from a hash in the fewest bits.
   *
   * @param {Uint8Array} hash [32]
   * @param {number} count
   * @returns {{rows: Int32Array, distances: Int32Array}}
   */
  nearestHashes(hash, count) {
    const { at } = this;
    this.hashQuery.set(hash);
    const best = this.best(this.hashed, count, (begin, rows) => {
      this.kernel.likenesses(at.hashes + begin * HASH_BYTES, rows, at.hashQuery, at.scores);
    });
    return { rows: best.rows, distances: best.scores.map((score) => -score) };
  }

  /**
   * Rows as vectors, float32 [n, K].
   *
   * @param {ArrayLike<number>} list
   */
  rows(list) {
    const { width, scale } = this;
    const found = new Float32Array(list.length * width);
    for (let i = 0; i < list.length; i++) {
      const row = this.row(list[i]);
      for (let k = 0; k < width; k++) found[i * width + k] = row[k] / scale;
    }
    return found;
  }

  /**
   * The dot products of rows with a query as it is, added up in float64.
   *
   * @param {ArrayLike<number>} list
   * @param {Float32Array} query [K]
   */
  cosines(list, query) {
    return Float32Array.from(list, (number) => {
      const row = this.row(number);
      let sum = 0;
      for (let k = 0; k < row.length; k++) sum += row[k] * query[k];
      return sum / this.scale;
    });
  }

  /**
   * In how many bits the hashes of rows differ from a hash.
   *
   * @param {ArrayLike<number>} list
   * @param {Uint8Array} hash [32]
   */
  distances(list, hash) {
    return Int32Array.from(list, (number) => {
      const own = this.roomForHashes([number, number + 1]);
      return own.reduce((sum, byte, i) => sum + BITS[byte ^ hash[i]], 0);
    });
  }

  /** @param {number} number */
  row(number) {
    return new Int8Array(this.buffer, this.at.rows + number * this.width, this.width);
  }

  /**
   * The rows with the largest scores, best first; of equal ones the smaller row first.
   *
   * @param {number} length of the table
   * @param {number} count
   * @param {(begin: number, rows: number) => void} score fills `scores` with those of a block of rows
   */
  best(length, count, score) {
    const most = Math.min(count, length);
    const rows = new Int32Array(most);
    const scores = new Int32Array(most);
    let held = 0;
    for (let begin = 0; most && begin < length; begin += BLOCK) {
      const size = Math.min(BLOCK, length - begin);
      score(begin, upTo(GROUP, size));
      let i = 0;
      while (i < size) {
        const isFull = held === most;
        if (isFull) i = this.kernel.next(this.at.scores, i, size, scores[most - 1]);
        for (const end = Math.min(size, i - (i % 4) + 4); i < end; i++) {
          if (held < most || this.scores[i] > scores[most - 1]) held = insert(rows, scores, held, begin + i, this.scores[i]);
        }
      }
    }
    return { rows, scores };
  }
}

/**
 * Put a row behind all that are as good, and let the last one fall out if the list is full.
 *
 * @param {Int32Array} rows
 * @param {Int32Array} scores descending
 * @param {number} held
 * @param {number} row
 * @param {number} score
 */
function insert(rows, scores, held, row, score) {
  let place = Math.min(held, rows.length - 1);
  for (; place > 0 && scores[place - 1] < score; place--) {
    scores[place] = scores[place - 1];
    rows[place] = rows[place - 1];
  }
  scores[place] = score;
  rows[place] = row;
  return Math.min(held + 1, rows.length);
}

/**
 * Write a query as int16, and return what its numbers were multiplied by.
 *
 * The largest becomes 32767, unless the magnitudes q would then add up to more than 2^24 - 1, as they may from 513
 * dimensions on. A row's numbers are at most 2^7 in magnitude, so that any sum of products that the kernel holds is at
 * most 2^7 (2^24 - 1) < 2^31, whatever the width. Rounding adds at most 1/2 to each q.
 *
 * @param {Float32Array} query [K]
 * @param {Int16Array} target [>= K]; 0 from K on
 */
export function quantised(query, target) {
  let largest = 0;
  let sum = 0;
  for (const value of query) {
    largest = Math.max(largest, Math.abs(value));
    sum += Math.abs(value);
  }
  if (!(largest > 0 && sum < Infinity)) return target.fill(0) && 1;
  const factor = Math.min(32767 / largest, (MOST_SUM - query.length / 2) / sum);
  for (let k = 0; k < query.length; k++) target[k] = Math.round(query[k] * factor);
  target.fill(0, query.length);
  return factor;
}

// ----------------------------------------------------------------------------------------------------------- memory

/**
 * The next multiple.
 *
 * @param {number} of
 * @param {number} number
 */
function upTo(of, number) {
  return of * Math.ceil(number / of);
}

/**
 * Where each thing lies, in bytes, and how many there are in all.
 *
 * @param {VectorsOptions} options
 */
function layout({ count, width, hashes = true }) {
  const filled = upTo(GROUP, count);
  let total = 0;
  /** @param {number} bytes */
  const next = (bytes) => {
    const at = total;
    total += upTo(SLACK, bytes) + SLACK;
    return at;
  };
  const at = {
    query: next(2 * upTo(STEP, width)),
    hashQuery: next(HASH_BYTES),
    scores: next(4 * BLOCK),
    rows: next(filled * width),
    hashes: next(hashes ? filled * HASH_BYTES : 0),
  };
  return { ...at, total };
}

/** @param {number} bytes */
function allocated(bytes) {
  return within(bytes, () => new ArrayBuffer(bytes));
}

/** @param {number} bytes */
function allocatedMemory(bytes) {
  const pages = Math.ceil(bytes / PAGE);
  return within(bytes, () => new WebAssembly.Memory({ initial: pages, maximum: pages }));
}

/**
 * @template T
 * @param {number} bytes
 * @param {() => T} allocate
 */
function within(bytes, allocate) {
  try {
    return allocate();
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof TypeError)) throw error; // TypeError: more than can be asked for
    throw littleMemory(`the index's rows, ${bytes.toLocaleString("en")} bytes`);
  }
}

/**
 * Copy bytes to where they belong, unless they were filled in there.
 *
 * @param {Uint8Array | Int8Array} bytes
 * @param {Uint8Array} target
 */
function place(bytes, target) {
  if (bytes.buffer === target.buffer && bytes.byteOffset === target.byteOffset) return;
  target.set(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length));
}

// ---------------------------------------------------------------------------------------------------------- kernels

/** kernel.wasm; undefined where it is of no use, or can't be had. */
async function fetchedKernel() {
  if (!hasSimd()) return undefined;
  const answer = await fetch(new URL("kernel.wasm", import.meta.url)).catch(() => undefined);
  return answer?.ok ? answer.arrayBuffer() : undefined;
}

/**
 * What kernel.wasm does, in plain JavaScript.
 *
 * @param {ArrayBuffer} buffer
 * @returns {Kernel}
 */
function plainKernel(buffer) {
  const bytes = new Uint8Array(buffer);
  const signed = new Int8Array(buffer);
  return {
    dots(row, rows, width, query, scores) {
      const numbers = new Int16Array(buffer, query, width);
      const found = new Int32Array(buffer, scores, rows);
      for (let i = 0; i < rows; i++, row += width) {
        let sum = 0;
        for (let k = 0; k < width; k++) sum += signed[row + k] * numbers[k];
        found[i] = sum;
      }
    },
    likenesses(hash, rows, query, scores) {
      const found = new Int32Array(buffer, scores, rows);
      for (let i = 0; i < rows; i++, hash += HASH_BYTES) {
        let sum = 0;
        for (let k = 0; k < HASH_BYTES; k++) sum -= BITS[bytes[hash + k] ^ bytes[query + k]];
        found[i] = sum;
      }
    },
    next(scores, from, count, least) {
      const found = new Int32Array(buffer, scores, count);
      while (from < count && found[from] <= least) from++;
      return from;
    },
  };
}
