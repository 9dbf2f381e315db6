/** The recogniser's own thread: it opens the bundle and answers what index.js asks. */

import { isOfMemory, littleMemory } from "./bundle.js";
import { RecogniserError } from "./errors.js";
import { Session } from "./session.js";

/** @type {Session | undefined} */
let session;

self.addEventListener("message", async ({ data: { id, method, args } }) => {
  try {
    const { result, transfer } = await answer(method, args);
    self.postMessage({ id, result }, { transfer });
  } catch (error) {
    self.postMessage({ id, error: told(error) });
  }
});

/**
 * @param {"open" | "identifies" | "allNames" | "search" | "sets" | "nearest" | "identify" | "embed"} method
 * @param {any[]} args
 * @returns {Promise<{result: any, transfer: Transferable[]}>}
 */
async function answer(method, args) {
  if (method === "open") {
    session = new Session(args[0], (progress) => self.postMessage({ progress }));
    return { result: await session.opened, transfer: [] };
  }
  const result = await /** @type {any} */ (session)[method](...args);
  return { result, transfer: result?.frame ? [result.frame] : [] };
}

/** @param {unknown} error @returns {ReturnType<RecogniserError["toJSON"]> | {message: string}} */
function told(error) {
  if (error instanceof RecogniserError) return error.toJSON();
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  // OpenCV throws the address of what went wrong, which for pictures that are whole is its memory
  if (isOfMemory(text) || typeof error === "number") return littleMemory(text).toJSON();
  return { message: text };
}
