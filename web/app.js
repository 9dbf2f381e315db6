/** The page: the recogniser's first user. It starts the recogniser and gives it to the views. */

import { byId } from "./page/dom.js";
import { faceDialog } from "./page/face.js";
import { identifyView, pictureSources } from "./page/identify.js";
import { LiveView } from "./page/live.js";
import { showMessage, showNote } from "./page/messages.js";
import { keepForOffline, startOffline } from "./page/offline.js";
import { progressRegion } from "./page/progress.js";
import { searchView } from "./page/search.js";
import { seenList } from "./page/seen.js";
import { tabs } from "./page/tabs.js";
import { counted } from "./page/words.js";

/** @typedef {import("./recogniser/types.js").Recogniser} Recogniser */
/** @typedef {import("./recogniser/types.js").RecogniserOptions} RecogniserOptions */

/** @type {Recogniser | null} */
let current = null;
/** @type {Promise<Recogniser>} resolves when pictures can be identified; its failure is shown where it is awaited */
let ready;

const progress = progressRegion();
const seen = seenList();
const openFace = faceDialog(() => current);
const search = searchView(openFace);
const needs = {
  recogniser: () => ready,
  onSure: (/** @type {import("./recogniser/types.js").Card} */ card) => seen.add(card),
  onOpen: openFace,
};
const pictures = identifyView(needs);
const live = new LiveView({ ...needs, onStart: pictures.clear });
const show = tabs((view) => {
  if (view !== "identify") {
    live.stop();
  }
});
pictureSources((files) => {
  live.stop();
  show("identify");
  pictures.take(files);
});
addEventListener("pagehide", () => live.stop());

/** @returns {RecogniserOptions} as the address names them: ?bundle=URL&encoder=fp32&device=webgpu */
function options() {
  const asked = new URLSearchParams(location.search);
  const bundle = asked.get("bundle");
  return {
    bundle: new URL(bundle ?? "bundle.json", document.baseURI),
    encoder: /** @type {RecogniserOptions["encoder"]} */ (asked.get("encoder") ?? undefined),
    device: /** @type {RecogniserOptions["device"]} */ (asked.get("device") ?? undefined),
    onProgress: progress.add,
  };
}

/** @returns {Promise<Recogniser>} once search works */
async function startSearch() {
  const { createRecogniser } = await import("./recogniser/index.js");
  const recogniser = await createRecogniser(options());
  current = recogniser;
  recogniser.ready.catch(() => {}); // awaited below
  const { count, built } = recogniser.info;
  byId("about", HTMLElement).textContent = `${counted(count, "card face")}, built ${built.slice(0, 10)}`;
  await search.start(recogniser);
  return recogniser;
}

async function start() {
  current?.close();
  const general = byId("general-message", HTMLElement);
  const identify = byId("identify-message", HTMLElement);
  const again = { label: "Try again", act: start };
  showMessage(general);
  showMessage(identify);
  showMessage(byId("camera-message", HTMLElement));
  byId("sources", HTMLElement).hidden = false;
  progress.begin("Loading the cards");
  const searching = startSearch();
  ready = searching.then(async (recogniser) => {
    await recogniser.ready;
    return recogniser;
  });
  ready.catch(() => {}); // shown below, and where it is awaited
  try {
    await searching;
  } catch (error) {
    progress.end();
    progress.say("");
    showMessage(general, error, again);
    return;
  }
  progress.begin("Loading what recognises pictures; search works already", "corner");
  progress.say("Search is ready.");
  const canIdentify = await ready.then(
    () => true,
    (error) => {
      sayWhyNot(identify, error, again);
      return false;
    },
  );
  progress.say(canIdentify ? "Ready to identify." : "Search works; pictures can't be identified.");
  progress.end();
  keepForOffline(canIdentify);
}

/**
 * Pictures can't be identified: say why in place of what would take them.
 *
 * @param {HTMLElement} place
 * @param {unknown} error
 * @param {{label: string, act: () => void}} again
 */
function sayWhyNot(place, error, again) {
  byId("sources", HTMLElement).hidden = true;
  if (options().encoder === "none") {
    showNote(place, "This page was opened for searching only."); // as was asked for
  } else {
    showMessage(place, error, again);
  }
}

if (!(await startOffline())) {
  await start();
}
