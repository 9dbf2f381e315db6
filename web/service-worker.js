/**
 * Keeps the page for visits without a network, and makes it cross-origin isolated where the host's headers don't.
 *
 * The network comes first, so a page that is online is always of one version, the server's. What is kept is a whole
 * set, replaced as a whole after a visit online (a cache's addAll keeps all or nothing); it answers where the network
 * fails, or takes longer than PATIENCE. Libraries are kept by the hashes in vendor/manifest.json, so a new one is
 * fetched once. The index's own files are none of its business: recogniser/bundle.js keeps these.
 */

// @ts-check
/// <reference lib="webworker" />

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));
const SCOPE = worker.registration.scope;
const SHELL_CACHE = `mtg-image-db shell ${SCOPE}`;
const VENDOR_CACHE = `mtg-image-db vendor ${SCOPE}`;
const VENDOR = new URL("vendor/", SCOPE).href;
const MANIFEST = `${VENDOR}manifest.json`;
const PATIENCE = 5000; // milliseconds

// Every file of the page but the libraries; tests compare this list with the folder.
const SHELL = [
  "./",
  "app.js",
  "style.css",
  "page/answers.js",
  "page/camera.js",
  "page/dom.js",
  "page/face.js",
  "page/icon.svg",
  "page/identify.js",
  "page/live.js",
  "page/messages.js",
  "page/offline.js",
  "page/pictures.js",
  "page/progress.js",
  "page/search.js",
  "page/seen.js",
  "page/tabs.js",
  "page/theme.js",
  "page/words.js",
  "recogniser/bundle.js",
  "recogniser/dhash.js",
  "recogniser/digest.js",
  "recogniser/encoder.js",
  "recogniser/errors.js",
  "recogniser/faces.js",
  "recogniser/index.js",
  "recogniser/kernel.wasm",
  "recogniser/libraries.js",
  "recogniser/looking.js",
  "recogniser/outline.js",
  "recogniser/picture.js",
  "recogniser/prepare.js",
  "recogniser/pyramid.js",
  "recogniser/quads.js",
  "recogniser/ranking.js",
  "recogniser/regions.js",
  "recogniser/resample.js",
  "recogniser/session.js",
  "recogniser/vectors.js",
  "recogniser/worker.js",
].map((path) => new URL(path, SCOPE).href);

/**
 * The ids of clients that were answered from what is kept: all of their files come from there, and those of the workers
 * that they start, so that versions don't mix.
 */
const offline = new Set();

worker.addEventListener("install", (event) => {
  worker.skipWaiting();
  event.waitUntil(keepShell());
});
worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));
worker.addEventListener("message", (event) => {
  const isOffline = event.source instanceof Client && offline.has(event.source.id);
  if (event.data?.keep && !isOffline) {
    event.waitUntil(Promise.all([keepShell(), event.data.withLibraries && keepVendor()]).catch(() => {})); // the next visit tries again
  }
});
worker.addEventListener("fetch", (event) => {
  const key = keyOf(event.request);
  if (event.request.method === "GET" && (SHELL.includes(key) || key.startsWith(VENDOR))) {
    event.respondWith(answer(event, key));
  }
});

/**
 * A request's address without what follows "?": the page is one, whichever bundle it is asked for.
 *
 * @param {Request} request
 */
function keyOf(request) {
  const { origin, pathname } = new URL(request.url);
  const path = origin + pathname;
  return path === new URL("index.html", SCOPE).href ? SCOPE : path;
}

/**
 * @param {FetchEvent} event
 * @param {string} key
 */
async function answer(event, key) {
  const isPage = event.request.mode === "navigate"; // that is asked for by the page before it, if by any
  const cache = await caches.open(key.startsWith(VENDOR) ? VENDOR_CACHE : SHELL_CACHE);
  const kept = await cache.match(key);
  if (!kept) {
    return isolated(await fetch(event.request));
  }
  if (isPage || !offline.has(event.clientId)) {
    try {
      const response = await soon(fetch(event.request));
      if (response.status < 500) {
        return isolated(response);
      }
    } catch {
      // no network, or too slow
    }
  }
  const clients = isPage ? [event.resultingClientId] : [event.clientId, event.resultingClientId]; // the latter a worker
  clients.filter(Boolean).forEach((id) => offline.add(id));
  return isolated(kept);
}

/**
 * @param {Promise<Response>} response
 * @returns {Promise<Response>} rejects where it takes too long
 */
function soon(response) {
  return new Promise((resolve, reject) => {
    response.then(resolve, reject);
    setTimeout(reject, PATIENCE, new Error("too slow"));
  });
}

/**
 * The response with the headers that give a page threads (SharedArrayBuffer); those of the host hold.
 *
 * @param {Response} response
 */
function isolated(response) {
  if (response.type === "opaque" || response.type === "opaqueredirect" || response.type === "error") {
    return response;
  }
  const { status, statusText } = response;
  const headers = new Headers(response.headers);
  const wanted = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "credentialless" };
  for (const [name, value] of Object.entries(wanted)) {
    headers.set(name, headers.get(name) ?? value);
  }
  const isEmpty = status === 204 || status === 205 || status === 304;
  return new Response(isEmpty ? null : response.body, { status, statusText, headers });
}

async function keepShell() {
  const cache = await caches.open(SHELL_CACHE);
  await cache.addAll(SHELL.map((address) => new Request(address, { cache: "no-cache" })));
  await forgetOthers(cache, new Set(SHELL));
}

/** Fetch the libraries whose hash is not that of the kept manifest; the manifest is kept last. */
async function keepVendor() {
  const cache = await caches.open(VENDOR_CACHE);
  const response = await fetch(MANIFEST, { cache: "no-cache" });
  if (!response.ok) {
    return;
  }
  const copy = response.clone();
  const files = neededOf(await response.json());
  const before = neededOf(await (await cache.match(MANIFEST))?.json());
  for (const [address, sha256] of files) {
    if (before.get(address) !== sha256 || !(await cache.match(address))) {
      await keepVerified(cache, address, sha256);
    }
  }
  await forgetOthers(cache, new Set([...files.keys(), MANIFEST]));
  await cache.put(MANIFEST, copy);
}

/**
 * The libraries by address, with their hashes; but for WebGPU's, which few use, and who does is online.
 *
 * @param {{files: {path: string, sha256: string}[]} | undefined} manifest
 */
function neededOf(manifest) {
  const files = (manifest?.files ?? []).filter(({ path }) => !/webgpu|asyncify/.test(path));
  return new Map(files.map(({ path, sha256 }) => [new URL(path, VENDOR).href, sha256]));
}

/**
 * @param {Cache} cache
 * @param {string} address
 * @param {string} sha256 hex
 */
async function keepVerified(cache, address, sha256) {
  const response = await fetch(address, { cache: "no-cache" });
  const copy = response.clone();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await response.arrayBuffer()));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (!response.ok || found !== sha256) {
    throw new Error(`${address} is not the file that vendor/manifest.json names`);
  }
  await cache.put(address, copy);
}

/**
 * @param {Cache} cache
 * @param {Set<string>} wanted addresses
 */
async function forgetOthers(cache, wanted) {
  const others = (await cache.keys()).filter(({ url }) => !wanted.has(url));
  await Promise.all(others.map((request) => cache.delete(request)));
}
