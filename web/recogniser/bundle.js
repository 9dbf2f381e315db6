/**
 * The files of an export, as bundle.json lists them: fetched, unpacked, verified by their hash, and kept in the
 * browser's Cache API, so that the next visit needs no network. Works in a worker and on a page.
 */
import { digest } from "./digest.js";
import { RecogniserError } from "./errors.js";

/**
 * @import { Bundle, BundleFile, Progress } from "./types.js"
 * @typedef {BundleFile["role"]} Role
 *
 * @typedef {object} LoadOptions
 * @property {string} [precision] of an encoder
 * @property {(progress: Progress) => void} [onProgress] in bytes before compression, about 100 times a role
 * @property {(file: BundleFile) => Uint8Array} [into] where a file's bytes go: an array of file.bytes bytes, which may
 *   lie in WebAssembly memory that does not grow meanwhile (default: a new array)
 *
 * @typedef {object} Loaded
 * @property {BundleFile} file
 * @property {Uint8Array} bytes
 */

const VERSION = "1.0";
const HASH_BYTES = 32;
const CACHE = "mtg-image-db-files"; // bundle.json under its own address, files under /sha256/<hash> of its origin
const PAUSE_MS = 200; // before a server that failed is asked again
const PATIENCE_MS = 5000; // for bundle.json, where there is a kept one
export const EXPORT_AGAIN = "Run export_for_browser.py again, and copy all that it writes to the server.";

/**
 * Fetch bundle.json, or take the kept copy where none can be had, and check that it is one we can read.
 * RecogniserError: insecure, no-bundle, network, wrong-version, wrong-size.
 *
 * @param {string | URL} url bundle.json's address
 * @returns {Promise<BundleFiles>}
 */
export async function openBundle(url) {
  if (!globalThis.crypto?.subtle) {
    throw new RecogniserError(
      "insecure",
      "This page can't verify files",
      `${globalThis.location?.origin ?? "this address"} is neither https nor this machine`,
      "Open it over https, or as http://localhost or http://127.0.0.1.",
    );
  }
  const address = new URL(url, globalThis.location?.href);
  const cache = await globalThis.caches?.open(CACHE).catch(() => undefined); // private windows may have none
  const kept = cache && (await keptBundle(cache, address));
  const bundle = await described(address, kept);
  const files = new BundleFiles(bundle, address, cache);
  if (bundle !== kept) await files.keepBundle().catch(() => {});
  return files;
}

/** An export whose bundle.json was read. Made by openBundle. */
export class BundleFiles {
  /**
   * @param {Bundle} bundle
   * @param {URL} url of bundle.json
   * @param {Cache | undefined} cache
   */
  constructor(bundle, url, cache) {
    this.bundle = bundle;
    this.url = url;
    this.cache = cache;
    /** @type {Promise<void>[]} */
    this.keeping = [];
    this.isKept = false; // bundle.json
  }

  /**
   * The files of a role, in the order of their rows; none if the export lacks it.
   *
   * @param {Role} role
   * @param {string} [precision]
   */
  list(role, precision) {
    return ofRole(this.bundle.files, role).filter((file) => !precision || file.precision === precision);
  }

  /**
   * The files of a role, one after another in the order of their rows; the next is fetched while one is used.
   * RecogniserError: no-encoder, no-bundle (a file is missing), network, wrong-size, damaged, little-memory.
   *
   * @param {Role} role
   * @param {LoadOptions} [options]
   * @returns {AsyncGenerator<Loaded, void, void>}
   */
  async *load(role, options = {}) {
    const files = this.list(role, options.precision);
    if (!files.length) throw missing(role, options.precision);
    const told = teller(role, files, options.onProgress);
    /** @param {number} index */
    const ask = (index) => {
      const loading = index < files.length ? this.file(files[index], told(index), options.into) : undefined;
      loading?.catch(() => {}); // it is told when it is waited for
      return loading;
    };
    let next = ask(0);
    for (let index = 0; next; index++) {
      const bytes = await next;
      next = ask(index + 1);
      yield { file: files[index], bytes };
    }
  }

  /**
   * The bytes of a role that has one file.
   *
   * @param {Role} role
   * @param {LoadOptions} [options]
   */
  async whole(role, options) {
    for await (const { bytes } of this.load(role, options)) return bytes;
    throw missing(role, options?.precision);
  }

  /** Wait until all files that were loaded are kept, or could not be. */
  async kept() {
    await Promise.all(this.keeping);
  }

  /**
   * A file from the cache, else from the network, which is asked twice: not from the browser's HTTP cache the second
   * time, and for the file as it was before compression.
   *
   * @param {BundleFile} file
   * @param {(loaded: number) => void} told
   * @param {LoadOptions["into"]} into
   */
  async file(file, told, into) {
    const target = into ? into(file) : allocated(file);
    const key = new URL(`/sha256/${file.sha256}`, this.url);
    const kept = await this.cache?.match(key).catch(() => undefined);
    if (kept && (await filled(target, kept, file, told, false).then(() => true, () => false))) return target;
    try {
      await fetched(target, file, this.url, told, true);
    } catch (error) {
      if (!(error instanceof RecogniserError) || error.code === "no-bundle") throw error;
      if (error.code === "network") await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      await fetched(target, file, this.url, told, false);
    }
    if (this.cache) this.keeping.push(this.keep(key, /** @type {Uint8Array<ArrayBuffer>} */ (target)).catch(() => {}));
    return target;
  }

  /**
   * Keep a file. Where there is no room for two versions of the index, the kept one makes room for this one; where
   * there is none even so, the file is fetched again next time.
   *
   * @param {URL} key
   * @param {Uint8Array<ArrayBuffer>} bytes
   */
  async keep(key, bytes) {
    const put = () => this.cache?.put(key, new Response(bytes));
    try {
      await put();
    } catch {
      await this.keepBundle({ evenInPart: true });
      await put();
    }
    await this.keepBundle();
  }

  /**
   * Keep bundle.json in place of the kept one, and delete the files that none lists any more; but not before the new
   * files are kept: an update that is cut off leaves the old version for a visit without a network.
   */
  async keepBundle({ evenInPart = false } = {}) {
    if (!this.cache || this.isKept) return;
    const text = JSON.stringify(this.bundle);
    const before = await keptBundle(this.cache, this.url);
    if (before && !evenInPart) {
      const files = new Set((await this.cache.keys()).map(({ url }) => url.slice(-64)));
      const parts = partsKept(this.bundle, files);
      const listed = new Set(this.bundle.files.map(partOf));
      if ([...partsKept(before, files)].some((part) => listed.has(part) && !parts.has(part))) return;
    }
    if (JSON.stringify(before) !== text) await this.cache.put(this.url, new Response(text));
    this.isKept = true;
    await tidy(this.cache);
  }
}

// ------------------------------------------------------------------------------------------------------ bundle.json

/**
 * The bundle from the network; or the kept one, if there is one and the network fails, takes too long, or sends
 * something else, as the login page of a hotel's network does. That of another version is no such thing.
 *
 * @param {URL} address
 * @param {Bundle | undefined} kept
 * @returns {Promise<Bundle>}
 */
async function described(address, kept) {
  const patience = new AbortController();
  const timer = kept && setTimeout(() => patience.abort(), PATIENCE_MS);
  try {
    return checked(parsed(await textOf(address, patience.signal), address));
  } catch (error) {
    const isElsewhere = error instanceof RecogniserError && ["network", "no-bundle"].includes(error.code);
    if (kept && isElsewhere) return kept;
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {URL} address
 * @param {AbortSignal} signal
 */
async function textOf(address, signal) {
  const answer = await fetch(address, { cache: "no-cache", signal }).catch((error) => {
    throw offline(address, String(error));
  });
  if (answer.status >= 500) throw offline(address, `it answered ${answer.status}`);
  if (!answer.ok) throw noBundle(address, `it answered ${answer.status} ${answer.statusText}`.trim());
  return answer.text().catch((error) => {
    throw offline(address, String(error)); // it broke off
  });
}

/**
 * @param {Cache} cache
 * @param {URL} address
 * @returns {Promise<Bundle | undefined>} nothing where none is kept that we can read
 */
async function keptBundle(cache, address) {
  try {
    return checked(await (await cache.match(address))?.json());
  } catch {
    return undefined;
  }
}

/**
 * What a visit needs one of: the rows in one of their forms, the encoder in one of its precisions, each other role.
 *
 * @param {BundleFile} file
 */
const partOf = ({ role }) => (role === "vectors" || role === "whitened" ? "rows" : role);

/**
 * The parts of a bundle that are whole among the kept files.
 *
 * @param {Bundle} bundle
 * @param {Set<string>} kept hashes of files
 */
function partsKept({ files }, kept) {
  /** @param {BundleFile} file */
  const form = ({ role, precision }) => `${role} ${precision}`;
  const lacking = new Set(files.filter(({ sha256 }) => !kept.has(sha256)).map(form));
  return new Set(files.filter((file) => !lacking.has(form(file))).map(partOf));
}

/**
 * @param {string} text
 * @param {URL} address
 * @returns {unknown}
 */
function parsed(text, address) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw noBundle(address, `what it sends is not JSON: ${error instanceof Error ? error.message : error}`);
  }
}

/**
 * The bundle, if it is of our version and its numbers agree with each other.
 *
 * @param {any} bundle
 * @returns {Bundle}
 */
function checked(bundle) {
  if (bundle?.version !== VERSION) {
    throw new RecogniserError(
      "wrong-version",
      "The index has a version that this page can't read",
      `bundle.json has version ${JSON.stringify(bundle?.version)}, not "${VERSION}"`,
      "Export the index again with the project's version that this page is from.",
    );
  }
  const [count, width] = Array.isArray(bundle.shape) ? bundle.shape : [];
  const files = Array.isArray(bundle.files) ? bundle.files : [];
  if (![count, width].every((size) => Number.isSafeInteger(size) && size > 0) || !files.length) {
    throw disagreeing(`shape is ${JSON.stringify(bundle.shape)}, and ${files.length} files are listed`);
  }
  if (!files.every(isFile)) throw disagreeing("a file is listed without its path, role, size or SHA-256");
  /** @type {[Role, number][]} */
  const tables = [
    ["records", 0],
    ["vectors", width],
    ["whitened", bundle.whitening?.vectors?.shape?.[1] ?? 0],
    ["hashes", HASH_BYTES],
  ];
  for (const [role, rowBytes] of tables) checkRows(files, role, count, rowBytes);
  return bundle;
}

/** @param {any} file */
function isFile(file) {
  const isSized = Number.isSafeInteger(file?.bytes) && file.bytes > 0;
  return isSized && typeof file.path === "string" && typeof file.role === "string" && /^[0-9a-f]{64}$/.test(file.sha256);
}

/**
 * The files of a role, in the order of their rows.
 *
 * @param {BundleFile[]} files
 * @param {Role} role
 */
function ofRole(files, role) {
  return files.filter((file) => file.role === role).sort((a, b) => (a.rows?.[0] ?? 0) - (b.rows?.[0] ?? 0));
}

/**
 * The files of a role hold each row once, in `rowBytes` bytes (0: of any length).
 *
 * @param {BundleFile[]} files
 * @param {Role} role
 * @param {number} count
 * @param {number} rowBytes
 */
function checkRows(files, role, count, rowBytes) {
  const parts = ofRole(files, role);
  let end = 0;
  for (const { path, rows, bytes } of parts) {
    if (!rows || rows[0] !== end || rows[1] <= rows[0]) {
      throw disagreeing(`${path} should begin at row ${end}, but has rows ${JSON.stringify(rows)}`);
    }
    if (rowBytes && bytes !== (rows[1] - rows[0]) * rowBytes) {
      throw disagreeing(`${path} has ${bytes} bytes for ${rows[1] - rows[0]} rows of ${rowBytes} bytes`);
    }
    end = rows[1];
  }
  if (parts.length && end !== count) throw disagreeing(`the files of ${role} have ${end} rows, not ${count}`);
}

/**
 * Delete the kept files that no kept bundle.json lists.
 *
 * @param {Cache} cache
 */
async function tidy(cache) {
  const keys = await cache.keys();
  const isKeptFile = (/** @type {Request} */ key) => /^\/sha256\/[0-9a-f]{64}$/.test(new URL(key.url).pathname);
  const listed = new Set();
  for (const key of keys.filter((key) => !isKeptFile(key))) {
    const bundle = await (await cache.match(key))?.json().catch(() => undefined);
    for (const file of bundle?.files ?? []) listed.add(file.sha256);
  }
  const unlisted = keys.filter((key) => isKeptFile(key) && !listed.has(key.url.slice(-64)));
  await Promise.all(unlisted.map((key) => cache.delete(key)));
}

// ------------------------------------------------------------------------------------------------------------ files

/** @param {BundleFile} file */
function allocated(file) {
  try {
    return new Uint8Array(file.bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw littleMemory(`${file.path}, ${file.bytes.toLocaleString("en")} bytes`);
  }
}

/**
 * Fill `target` with a file from the network.
 *
 * @param {Uint8Array} target
 * @param {BundleFile} file
 * @param {URL} base
 * @param {(loaded: number) => void} told
 * @param {boolean} isFirst
 */
async function fetched(target, file, base, told, isFirst) {
  const packed = isFirst && typeof DecompressionStream !== "undefined" ? file.gzip : undefined;
  const address = new URL(packed?.path ?? file.path, base);
  const answer = await fetch(address, { cache: isFirst ? "default" : "reload" }).catch((error) => {
    throw offline(address, String(error));
  });
  if (answer.status >= 500) throw offline(address, `it answered ${answer.status}`);
  if (!answer.ok) {
    const details = `${address} answered ${answer.status}`;
    throw new RecogniserError("no-bundle", "A file of the index is missing", details, EXPORT_AGAIN);
  }
  await filled(target, answer, file, told, Boolean(packed));
}

/**
 * Fill `target` with a file's bytes, unpacked if they are gzip, and check their number and hash.
 *
 * @param {Uint8Array} target
 * @param {Response} answer
 * @param {BundleFile} file
 * @param {(loaded: number) => void} told
 * @param {boolean} mayBePacked
 */
async function filled(target, answer, file, told, mayBePacked) {
  /** @type {{error?: unknown}} */
  const broken = {};
  let length = 0;
  try {
    for await (const chunk of chunks(await unpacked(answer, mayBePacked, broken))) {
      if (length + chunk.length <= target.length) target.set(chunk, length);
      length += chunk.length;
      told(Math.min(length, file.bytes));
    }
  } catch (error) {
    if (error instanceof RecogniserError) throw error;
    if (broken.error) throw offline(answer.url || file.path, String(broken.error));
    throw damaged(file, `it can't be unpacked after ${length} bytes: ${error}`);
  }
  if (length !== file.bytes) throw wrongSize(file, length);
  const found = await digest("SHA-256", /** @type {Uint8Array<ArrayBuffer>} */ (target));
  if (found !== file.sha256) throw damaged(file, `SHA-256 is ${found}, not ${file.sha256}`);
}

/**
 * The bytes of an answer before compression. A server may have undone it already, so the first bytes decide.
 *
 * @param {Response} answer
 * @param {boolean} mayBePacked
 * @param {{error?: unknown}} broken gets the network's error, if there is one
 * @returns {Promise<ReadableStream<Uint8Array>>}
 */
async function unpacked(answer, mayBePacked, broken) {
  const reader = answer.body?.getReader();
  const read = async () => {
    try {
      return (await reader?.read())?.value;
    } catch (error) {
      broken.error = error;
      throw error;
    }
  };
  let first = await read();
  const isPacked = mayBePacked && first && first[0] === 0x1f && first[1] === 0x8b;
  const stream = new ReadableStream({
    async pull(controller) {
      const chunk = first ?? (await read());
      first = undefined;
      if (chunk) controller.enqueue(chunk);
      else controller.close();
    },
  });
  return isPacked ? stream.pipeThrough(new DecompressionStream("gzip")) : stream;
}

/**
 * A stream's chunks: not every browser can iterate over a stream itself.
 *
 * @param {ReadableStream<Uint8Array>} stream
 */
async function* chunks(stream) {
  const reader = stream.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

/**
 * Adds up what has come of a role's files: `teller(…)(index)(loaded)`.
 *
 * @param {Role} role
 * @param {BundleFile[]} files
 * @param {((progress: Progress) => void) | undefined} onProgress
 */
function teller(role, files, onProgress) {
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  const loaded = files.map(() => 0);
  let last = -Infinity;
  return (/** @type {number} */ index) => (/** @type {number} */ bytes) => {
    loaded[index] = bytes;
    const now = loaded.reduce((sum, part) => sum + part, 0);
    if (now !== total && Math.abs(now - last) < total / 100) return;
    last = now;
    onProgress?.({ role, loaded: now, total });
  };
}

// ----------------------------------------------------------------------------------------------------------- errors

/** Whether an error's text says that there was too little memory. @param {string} text */
export const isOfMemory = (text) => /out of memory|OOM|allocat|(string|array|buffer) length/i.test(text);

/**
 * The error of what needs more memory than there is.
 *
 * @param {string} what
 */
export function littleMemory(what) {
  return new RecogniserError(
    "little-memory",
    "There is too little memory for the index",
    `no room for ${what}`,
    "Close other tabs, or open the page on a machine with more memory.",
  );
}

/**
 * @param {Role} role
 * @param {string} [precision]
 */
function missing(role, precision) {
  const what = precision ? `${role} in ${precision}` : role;
  const details = `bundle.json lists no ${what}`;
  return role === "encoder"
    ? new RecogniserError(
        "no-encoder",
        "The encoder was not exported",
        details,
        "Run export_for_browser.py --encoder to identify pictures. Searching by name works without.",
      )
    : new RecogniserError("no-bundle", "A part of the index was not exported", details, EXPORT_AGAIN);
}

/**
 * @param {URL} address
 * @param {string} details
 */
function noBundle(address, details) {
  const suggestion = "Run export_for_browser.py and serve its files beside the page, or name another: ?bundle=ADDRESS.";
  return new RecogniserError("no-bundle", "There is no index here", `${address}: ${details}`, suggestion);
}

/**
 * @param {URL | string} address
 * @param {string} details
 */
function offline(address, details) {
  const suggestion = "Check the connection and load the page again; what has arrived is kept.";
  return new RecogniserError("network", "A file of the index can't be fetched", `${address}: ${details}`, suggestion);
}

/** @param {string} details */
function disagreeing(details) {
  return new RecogniserError("wrong-size", "bundle.json contradicts itself", details, EXPORT_AGAIN);
}

/**
 * @param {BundleFile} file
 * @param {number} length
 */
function wrongSize(file, length) {
  const details = `${file.path}: expected ${file.bytes} bytes, got ${length}`;
  return new RecogniserError("wrong-size", "A file of the index has the wrong size", details, EXPORT_AGAIN);
}

/**
 * @param {BundleFile} file
 * @param {string} details
 */
function damaged(file, details) {
  return new RecogniserError("damaged", "A file of the index is damaged", `${file.path}: ${details}`, EXPORT_AGAIN);
}
