/** The index's own model, run by onnxruntime-web: prepared pictures -> vectors. */

import { isOfMemory, littleMemory } from "./bundle.js";
import { noVendor } from "./libraries.js";
import { unit } from "./ranking.js";

const MAX_THREADS = 4;

/** @typedef {import("./types.js").Preprocessing} Preprocessing */

export class Encoder {
  /**
   * @param {any} ort onnxruntime-web
   * @param {any} session
   * @param {Preprocessing} how
   * @param {{device: "wasm" | "webgpu", threads: number}} run
   */
  constructor(ort, session, how, { device, threads }) {
    this.ort = ort;
    this.session = session;
    this.how = how;
    this.device = device;
    this.threads = threads;
  }

  /**
   * @param {any} ort onnxruntime-web
   * @param {Uint8Array} model ONNX
   * @param {Preprocessing} how pictures are prepared
   * @param {"wasm" | "webgpu"} device
   */
  static async create(ort, model, how, device) {
    // Half of the cores: the others are for the camera, the page, and for everything else
    const threads = globalThis.crossOriginIsolated
      ? Math.min(MAX_THREADS, Math.max(1, Math.floor(navigator.hardwareConcurrency / 2)))
      : 1;
    ort.env.wasm.numThreads = threads;
    const session = await ort.InferenceSession.create(model, { executionProviders: [device] }).catch(cantRun);
    return new Encoder(ort, session, how, { device, threads });
  }

  /**
   * Embed prepared pictures one by one: a batch takes no less time, and more memory.
   *
   * @param {Float32Array[]} tensors each [3, height, width]
   * @returns {Promise<Float32Array[]>} [D] each, of norm 1
   */
  async embed(tensors) {
    const vectors = [];
    for (const tensor of tensors) {
      const pixels = new this.ort.Tensor("float32", tensor, [1, 3, ...this.how.input.size]);
      const { embedding } = await this.session.run({ pixels });
      vectors.push(unit(embedding.data));
    }
    return vectors;
  }
}

/**
 * @param {unknown} error onnxruntime's
 * @returns {never}
 */
function cantRun(error) {
  const text = String(error);
  throw isOfMemory(text) ? littleMemory(`the encoder: ${text}`) : noVendor("onnxruntime-web", text);
}
