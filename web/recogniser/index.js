/**
 * The recogniser: which card is in this picture, and how sure is that? It runs in a worker; a page only asks.
 *
 * const recogniser = await createRecogniser({ bundle: "bundle.json" });
 * await recogniser.ready;
 * const { cards } = await recogniser.identify(file);
 */

import { RecogniserError } from "./errors.js";

/**
 * @typedef {import("./types.js").Recogniser} Recogniser
 * @typedef {import("./types.js").RecogniserOptions} RecogniserOptions
 * @typedef {import("./types.js").WatchOptions} WatchOptions
 * @typedef {import("./types.js").Answer} Answer
 * @typedef {Blob | ImageBitmap | ImageData | CanvasImageSource} Picture
 */

export { RecogniserError };

const FRAME = { regions: 4, edges: 500 }; // of a video's frames less is asked: the next one is as good

/**
 * Open a bundle; the promise resolves as soon as names can be searched. RecogniserError if it can't be opened.
 *
 * @param {RecogniserOptions} [options]
 * @returns {Promise<Recogniser>}
 */
export async function createRecogniser({ bundle, vendor, encoder, device = "wasm", onProgress } = {}) {
  const ask = asker(new Worker(new URL("./worker.js", import.meta.url), { type: "module" }), onProgress);
  const options = {
    bundle: new URL(bundle ?? "bundle.json", document.baseURI).href,
    vendor: new URL(vendor ?? "../vendor/", vendor ? document.baseURI : import.meta.url).href,
    encoder: encoder ?? null,
    device,
  };
  const info = await ask("open", [options]).catch((error) => {
    ask.close();
    throw error;
  });
  const ready = ask("identifies", []).then((found) => void (info.encoder = found));
  const loaded = ask("allNames", []);
  for (const promise of [ready, loaded]) promise.catch(() => {}); // who waits for it is told
  return {
    info,
    ready,
    loaded,
    search: (words, how) => ask("search", [words, how]),
    sets: () => ask("sets", []),
    nearest: (row, limit) => ask("nearest", [row, limit]),
    identify: async (picture, how) => (await ask("identify", ...(await sendable(picture, how)))).answer,
    embed: async (picture) => ask("embed", ...(await sendable(picture))),
    watch: (video, how) => watch(video, how, ask),
    close: ask.close,
  };
}

/**
 * What asks the worker: a function that resolves to its answer.
 *
 * @param {Worker} worker
 * @param {RecogniserOptions["onProgress"]} onProgress
 */
function asker(worker, onProgress) {
  /** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
  const waiting = new Map();
  let last = 0;
  /** @type {Error | undefined} */
  let ended;
  /** @param {Error} error */
  const end = (error) => {
    ended = error;
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  worker.addEventListener("message", ({ data: { id, result, error, progress } }) => {
    if (progress) return onProgress?.(progress);
    const asked = waiting.get(id);
    waiting.delete(id);
    if (error) asked?.reject(error.code ? RecogniserError.from(error) : new Error(error.message));
    else asked?.resolve(result);
  });
  worker.addEventListener("error", ({ message }) => end(new Error(message || "the recogniser's worker did not start")));
  /** @param {string} method @param {any[]} args @param {Transferable[]} [transfer] @returns {Promise<any>} */
  const ask = (method, args, transfer = []) =>
    new Promise((resolve, reject) => {
      if (ended) return reject(ended);
      waiting.set(++last, { resolve, reject });
      worker.postMessage({ id: last, method, args }, transfer);
    });
  const close = () => {
    worker.terminate();
    end(new Error("the recogniser was closed"));
  };
  return Object.assign(ask, { close });
}

/**
 * What a worker is asked about a picture, and what moves there: a copy of a bitmap, whose owner keeps it.
 *
 * @param {Picture} picture
 * @param {import("./types.js").IdentifyOptions} [how]
 * @returns {Promise<[[Blob | ImageBitmap | ImageData, object | undefined], Transferable[]]>}
 */
async function sendable(picture, how) {
  if (picture instanceof Blob || picture instanceof ImageData) return [[picture, how], []];
  const copy = await createImageBitmap(picture);
  return [[copy, how], [copy]];
}

/**
 * Identify one frame of a video after another, as fast as they are answered.
 *
 * @param {HTMLVideoElement} video
 * @param {WatchOptions} options
 * @param {(method: string, args: any[], transfer: Transferable[]) => Promise<any>} ask
 */
function watch(video, { onFrame, onCard, onError, regions = FRAME.regions, edges = FRAME.edges, ...others }, ask) {
  const how = { ...others, regions, edges, giveBack: true };
  let running = true;
  /** @type {Set<string>} */
  let before = new Set();
  const next = () => {
    if (!running) return;
    identifyFrame().catch((error) => {
      if (!running) return;
      running = false;
      if (!onError) throw error;
      onError(error);
    });
  };
  const identifyFrame = async () => {
    const picture = await createImageBitmap(video).catch(() => null); // a camera's first frames can't always be had
    if (picture && running) {
      const { answer, frame } = await ask("identify", [picture, how], [picture]);
      if (running) tell(answer, frame);
      frame.close();
    } else {
      picture?.close();
    }
    if (running) atNextFrame(video, next);
  };
  /** @param {Answer} answer @param {ImageBitmap} frame */
  const tell = (answer, frame) => {
    const sure = answer.cards.filter((card) => card.sure);
    onFrame?.(answer, frame);
    for (const card of sure) if (!before.has(card.matches[0].face.name)) onCard(card, frame);
    before = new Set(sure.map((card) => card.matches[0].face.name));
  };
  atNextFrame(video, next);
  return { stop: () => void (running = false) };
}

/**
 * A video that is paused or hidden shows no new frame: then nothing is asked. Firefox before 132 can't tell.
 *
 * @param {HTMLVideoElement} video
 * @param {() => void} then
 */
function atNextFrame(video, then) {
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(then);
  else requestAnimationFrame(then);
}
