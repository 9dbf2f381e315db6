/** An opened bundle: its faces, its rows, its encoder, each usable as soon as it is there. */

import { EXPORT_AGAIN, openBundle } from "./bundle.js";
import { hashOf, thumbnail } from "./dhash.js";
import { Encoder } from "./encoder.js";
import { RecogniserError } from "./errors.js";
import { Faces } from "./faces.js";
import { Libraries } from "./libraries.js";
import { look, THOROUGH } from "./looking.js";
import { pixelsOf, rgbOf } from "./picture.js";
import { prepared, tensorOf } from "./prepare.js";
import { Ranker } from "./ranking.js";
import { createVectors, hasSimd } from "./vectors.js";

/**
 * @typedef {import("./types.js").Info} Info
 * @typedef {import("./types.js").Face} Face
 * @typedef {import("./types.js").Match} Match
 * @typedef {import("./types.js").Progress} Progress
 * @typedef {import("./types.js").BundleFile} BundleFile
 * @typedef {import("./bundle.js").BundleFiles} BundleFiles
 * @typedef {import("./types.js").IdentifyOptions} IdentifyOptions
 * @typedef {import("./picture.js").Pixels} Pixels
 * @typedef {Blob | ImageBitmap | ImageData} Picture
 * @typedef {{bundle: string, vendor: string, encoder: string | null, device: "wasm" | "webgpu"}} Options
 */

const SAME_NUMBERS = 0.005; // how much lower the reference picture's cosine may be than the export's lowest
const PRECISIONS = ["fp16", "fp32", "int8"]; // the first that there is
const NEEDED = ["name", "set", "image_url", "card_url"]; // of a record

export class Session {
  faces = new Faces();
  /** @type {Promise<unknown>} one picture at a time */
  #last = Promise.resolve();

  /** @param {Options} options @param {(progress: Progress) => void} onProgress */
  constructor(options, onProgress) {
    this.options = options;
    this.onProgress = onProgress;
    const bundle = openBundle(options.bundle);
    const records = bundle.then((opened) => this.#readFaces(opened));
    /** When names can be searched: the first file of records is in. */
    this.opened = records.then(({ first }) => first);
    /** When all names can be searched. */
    this.names = records.then(({ all }) => all);
    /** When faces can be compared. */
    this.ranker = Promise.all([bundle, this.names]).then(([opened]) => this.#openRows(opened));
    /** When pictures can be identified. */
    this.tools = Promise.all([bundle, this.ranker]).then(([opened]) => this.#openTools(opened));
    for (const promise of [this.names, this.ranker, this.tools]) promise.catch(() => {}); // who asks is told
  }

  /** @param {BundleFiles} files */
  async #readFaces(files) {
    const records = files.load("records", this);
    const read = async () => {
      const { value, done } = await records.next();
      if (value) this.faces.append(facesOf(value));
      return done;
    };
    await read();
    const all = (async () => {
      while (!(await read()));
    })();
    return { first: infoOf(files.bundle), all };
  }

  /** @param {BundleFiles} files */
  async #openRows(files) {
    const { whitening, shape, quantization, recognition, dhash } = files.bundle;
    const [count, width] = whitening?.vectors.shape ?? shape;
    const scale = (whitening?.vectors ?? quantization).scale_factor;
    const vectors = await createVectors({ count, width, scale, hashes: Boolean(dhash) });
    const { onProgress } = this;
    const rows = { onProgress, into: (/** @type {BundleFile} */ file) => vectors.room(rowsOf(file)) };
    for await (const { bytes } of files.load(whitening ? "whitened" : "vectors", rows)) vectors.append(bytes);
    const hashes = { onProgress, into: (/** @type {BundleFile} */ file) => vectors.roomForHashes(rowsOf(file)) };
    if (dhash) for await (const { bytes } of files.load("hashes", hashes)) vectors.appendHashes(bytes);
    const face = (/** @type {number} */ row) => this.faces.all[row];
    if (!whitening) return new Ranker(vectors, face, recognition, null);
    const map = new Float32Array((await files.whole("whitening", this)).buffer); // little-endian, as all browsers are
    const parts = { mean: map.subarray(0, shape[1]), axes: map.subarray(shape[1]) };
    return new Ranker(vectors, face, whitening.recognition, parts);
  }

  /** @param {BundleFiles} files */
  async #openTools(files) {
    const { onProgress } = this;
    if (!hasSimd()) throw noSimd();
    const file = this.#encoderFile(files);
    const libraries = await Libraries.open(new URL(this.options.vendor), onProgress);
    const [model, cv] = await Promise.all([
      files.whole("encoder", { precision: file.precision, onProgress }),
      libraries.openCv(),
    ]);
    /** @param {"wasm" | "webgpu"} device */
    const checked = async (device) => {
      const encoder = await Encoder.create(await libraries.runtime(device), model, files.bundle.preprocessing, device);
      await this.#check(encoder, files, file).catch(async (error) => {
        await encoder.session.release();
        throw error;
      });
      return encoder;
    };
    const { device } = this.options;
    const encoder = await checked(device).catch((error) => {
      if (device === "wasm") throw error;
      return checked("wasm"); // some phones' GPUs compute wrong numbers, and many browsers have none to offer
    });
    return { cv, encoder, how: files.bundle.preprocessing, precision: file.precision, cosine: file.cosine };
  }

  /**
   * RecogniserError (wrong-numbers) if the reference picture does not get the reference vector on this device.
   *
   * @param {Encoder} encoder
   * @param {BundleFiles} files
   * @param {BundleFile} file the encoder's
   */
  async #check(encoder, files, file) {
    const { preprocessing: how, reference } = files.bundle;
    if (!reference) return;
    const picture = new Blob([/** @type {BlobPart} */ (await files.whole("reference", this))]);
    const { image } = await pixelsOf(picture, how.background);
    const [vector] = await embedded([rgbOf(image)], { encoder, how });
    const cosine = vector.reduce((sum, value, i) => sum + value * reference[i], 0);
    if (!(cosine >= (file.cosine?.least ?? 1) - SAME_NUMBERS)) throw wrongNumbers(encoder.device, cosine);
  }

  /** @param {BundleFiles} files */
  #encoderFile(files) {
    if (this.options.encoder === "none") throw searchOnly();
    const encoders = files.list("encoder");
    const wanted = this.options.encoder ? [this.options.encoder] : PRECISIONS;
    const file = wanted.flatMap((precision) => encoders.filter((one) => one.precision === precision))[0];
    if (file) return file;
    const there = encoders.map(({ precision }) => precision).join(", ") || "none";
    throw new RecogniserError(
      "no-encoder",
      "Pictures can't be identified: the encoder was not exported",
      `wanted ${wanted.join(" or ")}, and the bundle has ${there}`,
      "Run export_for_browser.py --encoder. Names can be searched without.",
    );
  }

  /** When pictures can be identified. @returns {Promise<Info["encoder"]>} */
  async identifies() {
    const { encoder, precision, cosine } = await this.tools;
    return /** @type {Info["encoder"]} */ ({ precision, device: encoder.device, threads: encoder.threads, cosine });
  }

  async allNames() {
    await this.names;
  }

  /** @param {string} words @param {{set?: string, limit?: number, offset?: number}} [options] */
  search(words, options) {
    return this.faces.search(words, options);
  }

  /** The sets there are. */
  sets() {
    return this.faces.sets();
  }

  /** @param {number} row @param {number} [limit] @returns {Promise<Match[]>} */
  async nearest(row, limit = THOROUGH.matches) {
    const { vectors, face } = await this.ranker;
    const { rows, scores } = vectors.nearest(vectors.rows([row]), limit);
    return Array.from(rows, (other, i) => ({ row: other, score: Math.min(1, scores[i]), face: face(other) }));
  }

  /**
   * The cards in a picture. A frame that was transferred is given back.
   *
   * @param {Picture} picture a bitmap is closed or given back
   * @param {IdentifyOptions & {giveBack?: boolean}} [options]
   */
  identify(picture, { giveBack = false, ...options } = {}) {
    return this.#inTurn(picture, giveBack, async ({ cv, how, ...tools }) => {
      const started = performance.now();
      const { image, scale } = await pixelsOf(picture, how.background);
      const read = (performance.now() - started) / 1000;
      const embed = (/** @type {Pixels[]} */ cutOuts) => embedded(cutOuts, { how, ...tools });
      const helpers = { cv, embed, ranker: await this.ranker, side: how.target_size };
      const found = scaled(await look(image, helpers, thorough(options)), scale);
      return { answer: { ...found, seconds: { read, ...found.seconds } }, frame: giveBack ? picture : null };
    });
  }

  /** @param {Picture} picture */
  embed(picture) {
    return this.#inTurn(picture, false, async (tools) => {
      const pixels = rgbOf((await pixelsOf(picture, tools.how.background)).image);
      const [vector] = await embedded([pixels], tools);
      return { vector, hash: hashOf(thumbnail(pixels)) };
    });
  }

  /**
   * One picture at a time; a bitmap, which may have 50 MB, is closed when its turn is over.
   *
   * @template T
   * @param {Picture} picture
   * @param {boolean} isGivenBack if it was answered
   * @param {(tools: Awaited<Session["tools"]>) => Promise<T>} work
   * @returns {Promise<T>}
   */
  #inTurn(picture, isGivenBack, work) {
    const close = () => picture instanceof ImageBitmap && picture.close();
    const result = Promise.all([this.tools, this.#last]).then(([tools]) => work(tools));
    this.#last = result.then(() => isGivenBack || close(), close);
    return result;
  }
}

/**
 * @param {Pixels[]} pictures RGB
 * @param {{encoder: Encoder, how: import("./types.js").Preprocessing}} tools
 */
function embedded(pictures, { encoder, how }) {
  return encoder.embed(pictures.map((picture) => tensorOf(prepared(picture, how), how)));
}

/** @param {import("./types.js").Bundle} bundle @returns {Info} */
function infoOf({ shape, built, list, whitening }) {
  const width = (whitening?.vectors.shape ?? shape)[1];
  return { count: shape[0], width, whitened: Boolean(whitening), built, list, encoder: null };
}

/** @param {BundleFile} file */
const rowsOf = (file) => /** @type {[number, number]} */ (file.rows); // openBundle has checked that they are there

/**
 * The faces in a file of records. RecogniserError (wrong-size) if they are not those that it should hold.
 *
 * @param {import("./bundle.js").Loaded} loaded
 * @returns {Face[]}
 */
function facesOf({ file, bytes }) {
  const { records } = JSON.parse(new TextDecoder().decode(bytes));
  const [begin, end] = rowsOf(file);
  const broken = records.findIndex((/** @type {any} */ face) => !NEEDED.every((field) => typeof face[field] === "string"));
  if (records.length === end - begin && broken < 0) return records;
  const details = broken < 0 ? `${records.length} records, not ${end - begin}` : `record ${begin + broken} lacks a field`;
  throw new RecogniserError("wrong-size", "The index's metadata is not whole", `${file.path}: ${details}`, EXPORT_AGAIN);
}

/**
 * As query_index.py asks, unless told otherwise.
 *
 * @param {IdentifyOptions} options
 * @returns {Required<IdentifyOptions>}
 */
function thorough({ detect = THOROUGH.detect, matches = THOROUGH.matches, regions = THOROUGH.regions, edges = THOROUGH.edges }) {
  if (!["auto", "off", "all"].includes(detect)) throw new Error(`detect must be auto, off or all, not ${detect}`);
  return { detect, matches, regions, edges };
}

/**
 * An answer in the pixels of the picture itself.
 *
 * @template {{size: [number, number], cards: import("./types.js").Card[]}} T
 * @param {T} answer
 * @param {number} scale
 * @returns {T}
 */
function scaled(answer, scale) {
  if (scale === 1) return answer;
  const [width, height] = answer.size.map((side) => Math.round(side * scale));
  const cards = answer.cards.map((card) => {
    const quad = card.quad?.map(([x, y]) => [x * scale, y * scale]) ?? null;
    return { ...card, quad: /** @type {import("./types.js").Quad | null} */ (quad) };
  });
  return { ...answer, size: [width, height], cards };
}

function searchOnly() {
  const suggestion = "Ask for another encoder to identify pictures.";
  return new RecogniserError("no-encoder", "This page was opened for searching only", "encoder is none", suggestion);
}

function noSimd() {
  return new RecogniserError(
    "no-simd",
    "Pictures can't be identified: this browser is too old",
    "it lacks SIMD in WebAssembly",
    "Use Chrome or Edge from 91, Firefox from 89, Safari from 16.4. Names can be searched here, too.",
  );
}

/** @param {string} device @param {number} cosine */
function wrongNumbers(device, cosine) {
  return new RecogniserError(
    "wrong-numbers",
    "This device computes wrong vectors",
    `on ${device}, the vector of the reference picture has a cosine of ${cosine.toFixed(4)} with the one in the bundle`,
    "Use another browser, or another device.",
  );
}
