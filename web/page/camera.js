/** The device's cameras. */

import { cameraError, cameraUnavailable } from "./messages.js";

const WANTED = { width: { ideal: 1280 }, height: { ideal: 720 } };

/**
 * Start a camera: the one of that id, else the one that looks away from the user.
 *
 * @param {string} [deviceId]
 * @returns {Promise<MediaStream>}
 * @throws {PageError} no camera, not allowed, in use, insecure
 */
export async function openCamera(deviceId) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw cameraUnavailable();
  }
  const choice = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: { ideal: "environment" } };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: false, video: { ...WANTED, ...choice } });
  } catch (error) {
    throw cameraError(error);
  }
}

/** @returns {Promise<{id: string, label: string}[]>} their labels are known once one was allowed */
export async function cameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices
    .filter(({ kind }) => kind === "videoinput")
    .map(({ deviceId, label }, i) => ({ id: deviceId, label: label || `Camera ${i + 1}` }));
}

/** @param {MediaStream} stream */
export function closeCamera(stream) {
  stream.getTracks().forEach((track) => track.stop());
}
