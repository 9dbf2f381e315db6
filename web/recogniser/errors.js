/**
 * What can go wrong, told as the command line tells it: what happened, the details, what to do.
 *
 * @typedef {"no-bundle" | "wrong-version" | "wrong-size" | "damaged" | "no-encoder" | "no-simd" | "little-memory" |
 *   "insecure" | "network" | "no-vendor" | "wrong-numbers" | "bad-picture"} ErrorCode
 */
export class RecogniserError extends Error {
  /**
   * @param {ErrorCode} code
   * @param {string} message what happened
   * @param {string} details
   * @param {string} suggestion what to do
   */
  constructor(code, message, details, suggestion) {
    super(message);
    this.name = "RecogniserError";
    this.code = code;
    this.details = details;
    this.suggestion = suggestion;
  }

  /** For postMessage, which drops the fields of errors. */
  toJSON() {
    return { code: this.code, message: this.message, details: this.details, suggestion: this.suggestion };
  }

  /** @param {ReturnType<RecogniserError["toJSON"]>} told */
  static from(told) {
    return new RecogniserError(told.code, told.message, told.details, told.suggestion);
  }
}
