/** The libraries in web/vendor that the recogniser runs on, loaded when they are needed. */

import { RecogniserError } from "./errors.js";

/** @typedef {import("./types.js").Progress} Progress */

const RUNTIMES = {
  wasm: ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"],
  webgpu: ["ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"],
};

export class Libraries {
  /**
   * @param {URL} folder
   * @param {Map<string, number>} sizes bytes of its files
   * @param {(progress: Progress) => void} onProgress
   */
  constructor(folder, sizes, onProgress) {
    this.folder = folder;
    this.sizes = sizes;
    this.onProgress = onProgress;
  }

  /**
   * RecogniserError (no-vendor) if the folder is not there.
   *
   * @param {URL} folder that make vendor wrote
   * @param {(progress: Progress) => void} onProgress
   */
  static async open(folder, onProgress) {
    const url = new URL("manifest.json", folder);
    const answer = await fetch(url).catch(() => null);
    if (!answer?.ok) throw noVendor(url, answer ? `HTTP ${answer.status}` : "it can't be fetched");
    const { files } = await answer.json();
    const sizes = files.map((/** @type {{path: string, bytes: number}} */ { path, bytes }) => [path, bytes]);
    return new Libraries(folder, new Map(sizes), onProgress);
  }

  /** onnxruntime-web, which finds its own WASM file. @param {"wasm" | "webgpu"} device */
  runtime(device) {
    return this.#imported("runtime", RUNTIMES[device]);
  }

  /** OpenCV, which sets a global. */
  async openCv() {
    await this.#imported("outline", ["opencv.js"]);
    return /** @type {any} */ (globalThis).cv;
  }

  /**
   * @param {"runtime" | "outline"} role
   * @param {string[]} files the module, and what it loads; a browser does not say how far it is
   * @returns {Promise<any>}
   */
  async #imported(role, files) {
    const total = files.reduce((sum, file) => sum + (this.sizes.get(file) ?? 0), 0);
    this.onProgress({ role, loaded: 0, total });
    const url = new URL(files[0], this.folder);
    const module = await import(url.href).catch((error) => {
      throw noVendor(url, String(error));
    });
    this.onProgress({ role, loaded: total, total });
    return module;
  }
}

/** @param {URL | string} what @param {string} details */
export function noVendor(what, details) {
  return new RecogniserError(
    "no-vendor",
    "A library that the recogniser runs on can't be loaded",
    `${what instanceof URL ? what.pathname : what}: ${details}`,
    "Run make vendor, and serve what it writes with the page. If it is there, load the page again.",
  );
}
