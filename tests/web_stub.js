/**
 * Stands in for web/recogniser/index.js: the page's tests say what it answers (`scenario`) and when (`stub`).
 *
 * scenario: faces; fails: an error of createRecogniser; ready: "yes", "held" or an error; answers: one for each picture
 * that is identified, the last again and again, an error among them is thrown; held: createRecogniser waits for
 * stub.start(); first: how many faces there are until stub.load(), or stub.failLoad(error); nearestFails: an error.
 */

import { RecogniserError } from "./errors.js";

export { RecogniserError };

const scenario = globalThis.scenario;
const answers = [...(scenario.answers ?? [])];

const thrown = (told) => {
  throw RecogniserError.from(told);
};

export async function createRecogniser(options) {
  const stub = { ...globalThis.stub, progress: options.onProgress };
  globalThis.stub = stub;
  if (scenario.held) {
    await new Promise((resolve) => {
      stub.start = resolve;
    });
  }
  if (scenario.fails) {
    thrown(scenario.fails);
  }
  const ready = new Promise((resolve, reject) => {
    stub.ready = resolve;
    stub.fail = (told) => reject(RecogniserError.from(told));
    if (scenario.ready === "yes") {
      resolve();
    } else if (scenario.ready !== "held") {
      reject(RecogniserError.from(scenario.ready));
    }
  });
  return recogniser(stub, ready);
}

function recogniser(stub, ready) {
  const all = scenario.faces.map((face, row) => ({ row, face }));
  let faces = all.slice(0, scenario.first);
  const loaded = new Promise((resolve, reject) => {
    stub.load = () => {
      faces = all;
      resolve();
    };
    stub.failLoad = (told) => reject(RecogniserError.from(told));
  });
  if (scenario.first === undefined) {
    stub.load();
  }
  return {
    info: {
      ...{ count: all.length, width: 256, whitened: true, built: "2026-11-26T15:04:18+00:00", list: "list.jsonl" },
      encoder: null,
    },
    loaded,
    ready,
    async search(words, { set, limit = 50, offset = 0 } = {}) {
      const wanted = words.toLowerCase().split(/\s+/);
      const found = faces.filter(
        ({ face }) => (!set || face.set === set) && wanted.every((word) => face.name.toLowerCase().includes(word)),
      );
      return { total: found.length, faces: found.slice(offset, offset + limit) };
    },
    async sets() {
      const codes = [...new Set(faces.map(({ face }) => face.set))];
      const sets = codes.map((set) => {
        const its = faces.filter(({ face }) => face.set === set);
        return { set, name: its[0].face.set_name ?? null, count: its.length };
      });
      return sets.sort((one, other) => ((one.name ?? one.set) < (other.name ?? other.set) ? -1 : 1));
    },
    async nearest(row, limit = 10) {
      if (scenario.nearestFails) {
        thrown(scenario.nearestFails);
      }
      const near = [...faces].sort((one, other) => Math.abs(one.row - row) - Math.abs(other.row - row));
      return near.slice(0, limit).map((one, i) => ({ ...one, score: 1 - 0.03 * i }));
    },
    async identify() {
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      return answer.code ? thrown(answer) : answer;
    },
    watch(video, { onFrame, onCard, onError }) {
      let before = [];
      let isOver = false;
      stub.watching = true;
      stub.frame = async (answer) => {
        const frame = await createImageBitmap(video);
        if (isOver) {
          return;
        }
        onFrame?.(answer, frame);
        const sure = answer.cards.filter((card) => card.sure);
        sure.filter((card) => !before.includes(card.matches[0].face.name)).forEach((card) => onCard(card, frame));
        before = sure.map((card) => card.matches[0].face.name);
        frame.close();
      };
      stub.failFrame = (told) => onError?.(RecogniserError.from(told));
      return {
        stop() {
          isOver = true;
          stub.watching = false;
        },
      };
    },
    close() {
      stub.closed = (stub.closed ?? 0) + 1;
    },
  };
}
