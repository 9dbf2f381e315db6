/** The records of an index, as they arrive, searched by name. */

/** @typedef {import("./types.js").Face} Face */

export class Faces {
  /** @type {Face[]} */
  all = [];
  /** @type {string[]} */
  #names = [];

  /** @param {Face[]} faces the next rows */
  append(faces) {
    for (const face of faces) {
      this.all.push(face);
      this.#names.push(folded(face.printed_name ? `${face.name} ${face.printed_name}` : face.name));
    }
  }

  /**
   * Faces whose name, or the name that is printed on them, has every one of the words, in any order; names that begin
   * with them come first, then by name.
   *
   * @param {string} words
   * @param {{set?: string, limit?: number, offset?: number}} [options]
   */
  search(words, { set = "", limit = 60, offset = 0 } = {}) {
    const asked = folded(words).trim();
    const parts = asked.split(/\s+/).filter(Boolean);
    const rows = this.#names
      .map((_, row) => row)
      .filter((row) => (!set || this.all[row].set === set) && parts.every((part) => this.#names[row].includes(part)));
    /** @param {number} row */
    const begins = (row) => Number(!this.#names[row].startsWith(asked));
    rows.sort((a, b) => begins(a) - begins(b) || compare(this.#names[a], this.#names[b]) || a - b);
    const faces = rows.slice(offset, offset + limit).map((row) => ({ row, face: this.all[row] }));
    return { total: rows.length, faces };
  }

  /** The sets there are, by name or else code. */
  sets() {
    /** @type {Map<string, {set: string, name: string | null, count: number}>} */
    const sets = new Map();
    for (const { set, set_name: name = null } of this.all) {
      const found = sets.get(set);
      if (found) found.count += 1;
      else sets.set(set, { set, name, count: 1 });
    }
    return [...sets.values()].sort((a, b) => compare(a.name ?? a.set, b.name ?? b.set));
  }
}

/** Without case and accents, and with the apostrophe that Scryfall writes; phones type another. @param {string} text */
const folded = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").replace(/[\u2018\u2019\u02bc]/g, "'").toLowerCase();

/** @param {string} a @param {string} b */
const compare = (a, b) => (a < b ? -1 : Number(a > b));
