/** Picture -> the cards in it: helpers/recognise/query.py's `look` and seen.py's `cards_among` in JavaScript. */

import { Photo, WORKING_SIDE } from "./regions.js";

/**
 * @typedef {import("./regions.js").Region} Region
 * @typedef {import("./ranking.js").Ranker} Ranker
 * @typedef {import("./ranking.js").Ranking} Ranking
 * @typedef {import("./picture.js").Pixels} Pixels
 * @typedef {import("./types.js").Answer} Answer
 * @typedef {import("./types.js").Card} Card
 * @typedef {import("./types.js").IdentifyOptions} IdentifyOptions
 * @typedef {(cutOuts: Pixels[]) => Promise<Float32Array[]>} Embed vectors of norm 1
 * @typedef {{region: Region, ranking: Ranking}} Seen
 */

const ROUND = 12; // regions that are embedded at a time, the most promising first
const MAX_IDLE_ROUNDS = 3; // without another sure card: then the rest of the regions are no cards
const MAX_EMBEDDED = 240; // regions of a picture
const COVERED = 0.7; // a region of which a sure card has as much is not asked
const APART = 0.45; // two cards of an answer share at most this much of the smaller one: one may lie on the other
/** As query_index.py answers. @type {Required<IdentifyOptions>} */
export const THOROUGH = { detect: "auto", matches: 5, regions: MAX_EMBEDDED, edges: WORKING_SIDE };

/**
 * @param {ImageData} image upright and opaque
 * @param {{cv: any, embed: Embed, ranker: Ranker, side: number}} with_ `side`: of the encoder's canvas, pixels
 * @param {Required<IdentifyOptions>} options
 * @returns {Promise<Omit<Answer, "seconds"> & {seconds: Omit<Answer["seconds"], "read">}>}
 */
export async function look(image, { cv, embed, ranker, side }, { detect, matches, regions: most, edges }) {
  const started = performance.now();
  const photo = new Photo(cv, image);
  try {
    const hashed = photo.hashed(detect === "off" ? [photo.whole()] : photo.regions(edges));
    const left = mostPromisingFirst(hashed, ranker);
    const detected = performance.now();
    /** @type {Seen[]} */
    const seen = [];
    let [idle, embedding] = [0, 0];
    while (left.length && idle < MAX_IDLE_ROUNDS && seen.length < most) {
      const now = left.splice(0, Math.min(ROUND, most - seen.length));
      const before = performance.now();
      const vectors = await embed(now.map(({ region }) => photo.cutOut(region, side)));
      embedding += performance.now() - before;
      const ranked = now.map(({ region, hash }, i) => ({ region, ranking: ranker.rank(vectors[i], hash) }));
      seen.push(...ranked);
      const sure = ranked.filter(isSure);
      const open = left.filter(({ region }) => !sure.some((card) => card.region.covers(region) > COVERED));
      left.splice(0, left.length, ...open);
      idle = sure.length ? 0 : idle + 1;
    }
    const cards = cardsAmong(seen, detect).map((one) => cardOf(one, ranker, matches));
    const searching = performance.now() - detected - embedding;
    const seconds = { detect: (detected - started) / 1000, embed: embedding / 1000, search: searching / 1000 };
    return { size: [image.width, image.height], cards, embedded: seen.length, seconds };
  } finally {
    photo.delete();
  }
}

/**
 * Those with the clearest outlines and those with the nearest hashes take turns: a reflection spoils a card's hash, a
 * card that lies on it its outline.
 *
 * @param {{region: Region, hash: Uint8Array}[]} hashed clearest outline first
 * @param {Ranker} ranker
 */
function mostPromisingFirst(hashed, { vectors }) {
  if (!vectors.hashed) return [...hashed];
  const bits = hashed.map(({ hash }) => vectors.nearestHashes(hash, 1).distances[0]);
  const byHash = hashed.map((_, i) => i).sort((a, b) => bits[a] - bits[b]);
  const turn = byHash.reduce((turns, at, place) => ((turns[at] = Math.min(at, place)), turns), /** @type {number[]} */ ([]));
  return hashed.map((_, i) => i).sort((a, b) => turn[a] - turn[b]).map((i) => hashed[i]);
}

/** A picture that has not the shape of a card shows more than one: the best is a guess. @param {Seen} seen */
const isSure = ({ region, ranking }) => Boolean(ranking.sure && region.cardShaped);

/**
 * The regions that are cards, the clearest first: none that overlaps with a clearer one.
 *
 * @param {Seen[]} seen
 * @param {"auto" | "off" | "all"} detect
 */
function cardsAmong(seen, detect) {
  /** @type {Seen[]} */
  const kept = [];
  for (const one of [...seen].sort((a, b) => b.ranking.strength - a.ranking.strength)) {
    if (!kept.some((other) => one.region.covers(other.region) > APART)) kept.push(one);
  }
  return detect === "all" ? kept : kept.filter((one, i) => i === 0 || one.ranking.likely);
}

/**
 * @param {Seen} seen
 * @param {Ranker} ranker
 * @param {number} count
 * @returns {Card}
 */
function cardOf({ region, ranking }, ranker, count) {
  const mayBe = ranker.printings(ranking);
  const rest = ranking.rows.map((_, i) => i).filter((i) => !mayBe.includes(i));
  const matches = [...mayBe, ...rest].map((i) => {
    return { row: ranking.rows[i], score: ranking.scores[i], face: ranker.face(ranking.rows[i]) };
  });
  return {
    quad: region.whole ? null : /** @type {import("./types.js").Quad} */ (region.quad),
    orientation: region.orientation,
    matches: matches.slice(0, count),
    printings: matches.slice(0, mayBe.length),
    printingSure: mayBe.length === 1,
    margin: ranking.margin,
    gap: ranking.gap,
    sure: ranking.sure && region.cardShaped,
    confidence: region.cardShaped ? ranker.confidence(ranking) : null,
  };
}
