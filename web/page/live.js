/**
 * The camera's view: frame after frame is identified; a sure card freezes it, or is collected while it goes on.
 *
 * A card that has frozen the view is a sighting; while it stays in view after "Go on", it is not a second one.
 */

import { cardList, outlines, sentence } from "./answers.js";
import { cameras, closeCamera, openCamera } from "./camera.js";
import { byId, element, factList } from "./dom.js";
import { cameraEnded, showMessage } from "./messages.js";

/** @typedef {import("../recogniser/types.js").Answer} Answer */
/** @typedef {import("../recogniser/types.js").Card} Card */
/** @typedef {import("../recogniser/types.js").Recogniser} Recogniser */

const GONE_AFTER = 3; // frames without a card before it counts as new: one may be blurred
const FRAMES = 20; // over which the figures are averaged

/**
 * @typedef {object} Needs
 * @property {() => Promise<Recogniser>} recogniser resolves when pictures can be identified
 * @property {(card: Card) => void} onSure a sighting
 * @property {import("./answers.js").OnOpen} onOpen
 * @property {() => void} onStart
 */

export class LiveView {
  #video = byId("video", HTMLVideoElement);
  #stage = byId("stage", HTMLElement);
  #choice = byId("camera-choice", HTMLSelectElement);
  #keepGoing = byId("keep-going", HTMLInputElement);
  #status = byId("identify-status", HTMLElement);
  #message = byId("camera-message", HTMLElement);
  #figures = figuresOf(byId("figures", HTMLElement));
  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {{stop: () => void} | null} */
  #watching = null;
  /** @type {Map<string, number>} names that have been seen -> frames for which they have been out of view */
  #inView = new Map();
  #isFrozen = false;
  #turn = 0; // what belongs to an earlier start is dropped
  #listed = "";
  /** @type {Answer | null} */
  #last = null;

  /** @param {Needs} needs */
  constructor(needs) {
    this.needs = needs;
    byId("camera-start", HTMLButtonElement).addEventListener("click", () => this.#start());
    byId("camera-stop", HTMLButtonElement).addEventListener("click", () => {
      this.stop();
      byId("camera-start", HTMLButtonElement).focus();
    });
    byId("go-on", HTMLButtonElement).addEventListener("click", () => this.#goOn());
    this.#keepGoing.addEventListener("change", () => this.#keepGoing.checked && this.#goOn());
    this.#choice.addEventListener("change", () => this.#start(this.#choice.value));
    addEventListener("keydown", (event) => {
      const controls = "input, select, button, a, summary, dialog";
      const isControl = event.target instanceof HTMLElement && event.target.closest(controls);
      if (event.key === " " && this.#isFrozen && !isControl) {
        event.preventDefault();
        this.#goOn();
      }
    });
  }

  /** Stop the camera, if it runs. */
  stop() {
    this.#turn += 1;
    this.#endWatch();
    this.#thaw();
    this.#inView.clear();
    if (this.#stream) {
      closeCamera(this.#stream);
      this.#stream = null;
      this.#video.srcObject = null;
      this.#status.textContent = "";
    }
    byId("live", HTMLElement).hidden = true;
    byId("source", HTMLElement).hidden = false;
  }

  /** @param {string} [deviceId] */
  async #start(deviceId) {
    this.stop();
    const mine = ++this.#turn;
    showMessage(this.#message);
    this.needs.onStart();
    try {
      const opened = await openCamera(deviceId);
      if (mine !== this.#turn) {
        closeCamera(opened);
        return;
      }
      this.#stream = opened;
      await this.#show(opened);
      const known = await cameras();
      if (mine !== this.#turn) {
        return;
      }
      this.#offer(known, opened);
      this.#status.textContent = "Getting ready…";
      const ready = await this.needs.recogniser().catch(() => null); // what is missing is shown where it is loaded
      if (mine !== this.#turn) {
        return;
      }
      if (ready) {
        this.#watch(ready);
      } else {
        this.stop();
      }
    } catch (error) {
      if (mine === this.#turn) {
        this.#fail(error);
      }
    }
  }

  /** @param {unknown} error */
  #fail(error) {
    this.stop();
    showMessage(this.#message, error);
  }

  /** @param {MediaStream} opened */
  async #show(opened) {
    const [track] = opened.getVideoTracks();
    track.addEventListener("ended", () => {
      if (this.#stream === opened) {
        this.#fail(cameraEnded());
      }
    });
    this.#video.srcObject = opened;
    byId("live", HTMLElement).hidden = false;
    byId("source", HTMLElement).hidden = true; // a picture can still be dropped or pasted
    await this.#video.play();
  }

  /**
   * @param {Awaited<ReturnType<typeof cameras>>} known
   * @param {MediaStream} opened
   */
  #offer(known, opened) {
    const [track] = opened.getVideoTracks();
    this.#choice.replaceChildren(...known.map(({ id, label }) => element("option", { value: id }, label)));
    byId("camera-field", HTMLElement).hidden = known.length < 2;
    this.#choice.value = track.getSettings().deviceId ?? this.#choice.value;
    byId("camera-stop", HTMLButtonElement).focus();
  }

  /** @param {Recogniser} ready */
  #watch(ready) {
    const mine = this.#turn;
    this.#figures.restart();
    this.#listed = "";
    this.#status.textContent = "Hold a card into the picture.";
    this.#watching = ready.watch(this.#video, {
      onFrame: (answer) => mine === this.#turn && this.#onFrame(answer),
      onCard: (card, frame) => mine === this.#turn && this.#onCard(card, frame),
      onError: (error) => mine === this.#turn && this.#fail(error),
    });
  }

  /** @param {Answer} answer */
  #onFrame(answer) {
    this.#last = answer;
    this.#forget(new Set(answer.cards.filter((card) => card.sure).map((card) => card.matches[0].face.name)));
    this.#stage.querySelector("svg")?.remove();
    this.#stage.append(outlines(answer));
    this.#figures.add(answer);
    const shown = answer.cards.map((card) => [card.sure, ...card.matches.map((match) => match.row)]).join();
    if (shown !== this.#listed) {
      this.#listed = shown; // else pictures would flicker from frame to frame
      this.#list(answer);
    }
  }

  /** @param {Set<string>} names that a frame shows; others are forgotten after some frames */
  #forget(names) {
    for (const [name, away] of this.#inView) {
      if (names.has(name)) {
        this.#inView.set(name, 0);
      } else if (away + 1 >= GONE_AFTER) {
        this.#inView.delete(name);
      } else {
        this.#inView.set(name, away + 1);
      }
    }
  }

  /** @param {Answer} answer */
  #list(answer) {
    const { cards } = answer;
    const list = cards.length ? [element("div", { class: "answer" }, cardList(answer, this.needs.onOpen))] : [];
    byId("answers", HTMLElement).replaceChildren(...list);
  }

  /**
   * @param {Card} card
   * @param {ImageBitmap} frame
   */
  #onCard(card, frame) {
    const { name } = card.matches[0].face;
    const isNew = !this.#inView.has(name);
    this.#inView.set(name, 0);
    if (!isNew) {
      return;
    }
    this.needs.onSure(card);
    if (this.#keepGoing.checked) {
      this.#status.textContent = `${name} was added to the list.`;
    } else if (!this.#isFrozen) {
      this.#freeze(frame);
    }
  }

  /** @param {ImageBitmap} frame */
  #freeze(frame) {
    this.#isFrozen = true;
    const frozen = byId("frozen", HTMLCanvasElement);
    frozen.width = frame.width;
    frozen.height = frame.height;
    frozen.getContext("2d")?.drawImage(frame, 0, 0);
    frozen.hidden = false;
    byId("frozen-note", HTMLElement).hidden = false;
    const mine = this.#turn;
    setTimeout(() => {
      if (mine !== this.#turn) {
        return;
      }
      this.#turn += 1; // this frame's callbacks have all come; later ones are dropped
      this.#endWatch();
      if (this.#last) {
        this.#list(this.#last);
        this.#status.textContent = sentence(this.#last);
      }
      byId("go-on", HTMLButtonElement).focus();
    });
  }

  #endWatch() {
    this.#watching?.stop();
    this.#watching = null;
  }

  #thaw() {
    this.#isFrozen = false;
    byId("frozen", HTMLCanvasElement).hidden = true;
    byId("frozen-note", HTMLElement).hidden = true;
    this.#stage.querySelector("svg")?.remove();
  }

  async #goOn() {
    if (!this.#isFrozen || !this.#stream) {
      return;
    }
    this.#thaw();
    byId("answers", HTMLElement).replaceChildren();
    const mine = ++this.#turn;
    const ready = await this.needs.recogniser();
    if (mine === this.#turn && this.#stream) {
      this.#watch(ready);
      byId("camera-stop", HTMLButtonElement).focus();
    }
  }
}

/**
 * Frames a second and the parts' milliseconds, in a list that is changed only while it is open.
 *
 * @param {HTMLElement} details
 */
function figuresOf(details) {
  /** @type {{at: number, answer: Answer}[]} */
  let frames = [];
  const mean = (/** @type {(answer: Answer) => number} */ of) =>
    frames.reduce((sum, { answer }) => sum + of(answer), 0) / frames.length;
  const milliseconds = (/** @type {keyof Answer["seconds"]} */ part) =>
    `${(1000 * mean((answer) => answer.seconds[part])).toFixed(1)} ms`;

  function show() {
    if (!(details instanceof HTMLDetailsElement) || !details.open || frames.length < 2) {
      return;
    }
    const seconds = (frames[frames.length - 1].at - frames[0].at) / 1000;
    const [width, height] = frames[0].answer.size;
    details.lastElementChild?.replaceWith(
      factList([
        ["Frames a second", ((frames.length - 1) / seconds).toFixed(1)],
        ["Frame", `${width} × ${height}`],
        ["Read", milliseconds("read")],
        ["Outlines", milliseconds("detect")],
        ["Encoder", milliseconds("embed")],
        ["Search", milliseconds("search")],
        ["Regions a frame", mean((answer) => answer.embedded).toFixed(1)],
      ]),
    );
  }
  return {
    restart() {
      frames = [];
    },
    /** @param {Answer} answer */
    add(answer) {
      frames = [...frames.slice(1 - FRAMES), { at: performance.now(), answer }];
      show();
    },
  };
}
