/** What went wrong, always in three lines: what happened, the details, what to do. */

import { element } from "./dom.js";

/**
 * @typedef {object} Told
 * @property {string} code
 * @property {string} message
 * @property {string} details
 * @property {string} suggestion
 */

const CAMERA_SUGGESTION = "Choose a picture instead, or photograph the card and drop the photo here.";

/**
 * What cameras fail with, by the DOMException's name (Media Capture and Streams, 10.2).
 *
 * @type {Record<string, Omit<Told, "details">>}
 */
const CAMERA = {
  NotFoundError: {
    code: "no-camera",
    message: "No camera was found",
    suggestion: `Connect one and start it again. ${CAMERA_SUGGESTION}`,
  },
  NotAllowedError: {
    code: "camera-denied",
    message: "This page may not use the camera",
    suggestion: "Allow the camera for this page in the browser's address bar (and for the browser in the system's " +
      `settings), then start it again. ${CAMERA_SUGGESTION}`,
  },
  NotReadableError: {
    code: "camera-in-use",
    message: "The camera does not start",
    suggestion: "Another program or tab may be using it: close that one, then start the camera again.",
  },
  OverconstrainedError: {
    code: "camera-gone",
    message: "The chosen camera is not there any more",
    suggestion: "Connect it again, or choose another.",
  },
};
CAMERA.SecurityError = CAMERA.NotAllowedError;
CAMERA.AbortError = CAMERA.NotReadableError;

/** A fault that a page's module found itself. */
export class PageError extends Error {
  /** @param {Told} told */
  constructor(told) {
    super(told.message);
    this.told = told;
  }
}

/** @returns {PageError} why there can't be a camera on this page */
export function cameraUnavailable() {
  if (!isSecureContext) {
    return new PageError({
      code: "insecure",
      message: "The camera needs a secure address",
      details: `${location.origin} is neither https:// nor this device itself`,
      suggestion: "Open the page by https://, or on the computer that serves it by http://127.0.0.1.",
    });
  }
  return new PageError({
    code: "no-camera",
    message: "This browser has no access to cameras",
    details: "navigator.mediaDevices is missing",
    suggestion: `Use another browser. ${CAMERA_SUGGESTION}`,
  });
}

/** @returns {PageError} the camera has ended by itself */
export function cameraEnded() {
  return new PageError({
    code: "camera-gone",
    message: "The camera has stopped",
    details: "it was disconnected, or its permission was taken back",
    suggestion: "Connect it or allow it again, then start it.",
  });
}

/**
 * @param {unknown} error of getUserMedia
 * @returns {PageError}
 */
export function cameraError(error) {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  const known = CAMERA[name] ?? CAMERA.NotReadableError;
  return new PageError({ ...known, details: `the browser says: ${[name, message].filter(Boolean).join(": ")}` });
}

/**
 * @param {unknown} error
 * @returns {Told}
 */
export function told(error) {
  if (error instanceof PageError) {
    return error.told;
  }
  const known = /** @type {Partial<Told> | null} */ (error instanceof Object ? error : null);
  if (known && typeof known.code === "string" && typeof known.suggestion === "string") {
    const { code, message = "", details = "", suggestion } = known;
    return { code, message, details, suggestion };
  }
  return {
    code: "fault",
    message: "Something in this page has failed",
    details: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
    suggestion: "Load the page again. If it stays so, report these details.",
  };
}

/**
 * Show an error at `place`, or nothing.
 *
 * @param {HTMLElement} place
 * @param {unknown} [error]
 * @param {{label: string, act: () => void}} [action] a button that may help
 */
export function showMessage(place, error, action) {
  if (error === undefined) {
    place.replaceChildren();
    return;
  }
  const { code, message, details, suggestion } = told(error);
  place.replaceChildren(
    element(
      "div",
      { class: "message", role: "alert", "data-code": code },
      element("h3", {}, begun(message)),
      details && element("p", { class: "details" }, details),
      suggestion && element("p", {}, ...withCommands(begun(suggestion))),
      action &&
        element("p", {}, element("button", { type: "button", click: action.act }, action.label)),
    ),
  );
}

/**
 * Say what is no fault.
 *
 * @param {HTMLElement} place
 * @param {string} words a sentence
 */
export function showNote(place, words) {
  place.replaceChildren(element("p", { class: "soft" }, words));
}

/** @param {string} text as a sentence begins */
const begun = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

/**
 * Commands look like commands.
 *
 * @param {string} text
 */
function withCommands(text) {
  const parts = text.split(/(\bmake [a-z-]+(?: [A-Z]+=(?:"[^"]*"|[^\s,;"]*[^\s,;.":)]))*|\w+\.py(?: --[a-z-]+)*)/);
  return parts.map((part, i) => (i % 2 ? element("code", {}, part) : part));
}
