/**
 * The service worker: it keeps the page for visits without a network, and adds the headers that threads need where
 * the host can't. For these the page must be loaded a second time, once.
 */

const KEY = "mtg-image-db-isolation";
const PATIENCE = 4000; // milliseconds for the worker to take over; without it the page works with one thread

/** @returns {Promise<boolean>} whether the page is being loaded again, so that nothing needs to start */
export async function startOffline() {
  const registering = navigator.serviceWorker?.register(new URL("service-worker.js", document.baseURI));
  const registered = registering?.catch(() => null); // a private window; not there at all in an insecure context
  if (!needsIsolation() || !(await takenOver(await registered)) || !mayReload()) {
    return false;
  }
  location.reload();
  return true;
}

/** Whether a second thread is to be had, and the page is not isolated yet. */
const needsIsolation = () => !crossOriginIsolated && navigator.hardwareConcurrency > 1;

/**
 * @param {ServiceWorkerRegistration | null | undefined} registration
 * @returns {Promise<boolean>} whether the service worker answers this page's requests from now on
 */
function takenOver(registration) {
  const coming = registration && (registration.installing ?? registration.waiting ?? registration.active);
  if (navigator.serviceWorker?.controller || !coming) {
    return Promise.resolve(Boolean(coming));
  }
  return new Promise((resolve) => {
    navigator.serviceWorker.addEventListener("controllerchange", () => resolve(true), { once: true });
    coming.addEventListener("statechange", () => coming.state === "redundant" && resolve(false)); // it did not install
    setTimeout(resolve, PATIENCE, false);
  });
}

/** Once in this browser: where it has not helped, it never will, for some know no COEP "credentialless". */
function mayReload() {
  try {
    if (localStorage.getItem(KEY)) {
      return false;
    }
    localStorage.setItem(KEY, "tried");
    return true;
  } catch {
    return false; // it could not be remembered, and the page would load again for ever
  }
}

/**
 * Let the service worker fetch what it does not keep yet; when the page has loaded all that it needs.
 *
 * @param {boolean} withLibraries
 */
export async function keepForOffline(withLibraries) {
  const registration = await navigator.serviceWorker?.ready;
  registration?.active?.postMessage({ keep: true, withLibraries });
}
