/**
 * A hash in hex, by the browser's own code. TypeError in an insecure context, which has no crypto.subtle.
 *
 * @param {"SHA-1" | "SHA-256"} algorithm
 * @param {BufferSource} bytes
 */
export async function digest(algorithm, bytes) {
  const found = new Uint8Array(await crypto.subtle.digest(algorithm, bytes));
  return Array.from(found, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
