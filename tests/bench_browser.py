"""Search in the browser: milliseconds for the ten nearest rows, in headless Chromium, one thread.

The kernel of web/recogniser/vectors.js takes turns with reading the same bytes once, 16 at a time, with nothing else
done. A plain loop over a Float32Array in the same page runs by itself, and then in turns with the kernel, when its
110 MB leave none of the kernel's rows in the caches.

    python -m tests.bench_browser        (ROUNDS=21)
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.browser import BLANK, chromium, serving_web

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROUNDS = int(os.environ.get("ROUNDS", "21"))
SIZES = ((54_000, 512), (54_000, 256), (54_000, 128), (54_000, 64), (540_000, 256))
FLOAT_ROWS = 54_000  # a plain loop over more takes a second

MEASURE = """async ({ rounds, count, width, plain }) => {
  const { createVectors } = await import("/recogniser/vectors.js");
  const kernel = await (await fetch("/recogniser/kernel.wasm")).arrayBuffer();
  let exported;
  const instantiate = WebAssembly.instantiate;
  WebAssembly.instantiate = async (...given) => {
    const made = await instantiate.apply(WebAssembly, given);
    exported = made.instance.exports;
    return made;
  };
  const vectors = await createVectors({ count, width, scale: 127, kernel });
  let seed = 1;
  const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) | 0) >> 24;
  const bytes = vectors.room([0, count]);
  for (let i = 0; i < bytes.length; i++) bytes[i] = random();
  vectors.append(bytes);
  vectors.appendHashes(vectors.roomForHashes([0, count]).map(random));
  const query = Float32Array.from({ length: width }, random);
  const norm = Math.hypot(...query);
  query.forEach((value, k) => (query[k] = value / norm));
  const hash = Uint8Array.from({ length: 32 }, random);

  const signed = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  const floats = plain ? Float32Array.from(signed, (value) => value / 127) : null;
  function loop() {
    const rows = new Int32Array(10).fill(-1), scores = new Float32Array(10).fill(-Infinity);
    for (let row = 0, at = 0; row < count; row++) {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += floats[at++] * query[k];
      if (sum <= scores[9]) continue;
      let place = 9;
      for (; place > 0 && scores[place - 1] < sum; place--) {
        scores[place] = scores[place - 1];
        rows[place] = rows[place - 1];
      }
      scores[place] = sum;
      rows[place] = row;
    }
    return rows;
  }
  const ways = {
    kernel: () => vectors.nearest(query, 10),
    read: () => exported.read(vectors.at.rows, 128 * Math.floor((count * width) / 128)),
    hashes: () => vectors.nearestHashes(hash, 10),
    loop,
  };
  function inTurns(...names) {
    const taken = names.map(() => []);
    for (let round = -5; round < rounds; round++) {
      names.forEach((name, i) => {
        const begun = performance.now();
        ways[name]();
        if (round >= 0) taken[i].push(performance.now() - begun);
      });
    }
    return taken.map((times) => times.sort((a, b) => a - b)[times.length >> 1]);
  }
  const same = plain ? loop().join() === vectors.nearest(query, 10).rows.join() : null;
  return {
    bound: inTurns("kernel", "read"),
    hashes: inTurns("hashes")[0],
    loop: plain ? inTurns("loop")[0] : null,
    turns: plain ? inTurns("kernel", "loop") : null,
    same,
  };
}"""


@contextmanager
def opened_page() -> "Iterator[Page]":
    """A blank page of the server that the product has."""
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        Path(folder, "blank.html").write_bytes(BLANK)
        with serving_web(Path(folder)) as server:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(server.url + "blank.html")
            yield page
            browser.close()


def main() -> None:
    print(
        f"medians of {ROUNDS}, ms for the ten nearest; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    print("                                         loop, by itself      loop, in turns")
    print("   rows width  kernel /   read = ratio       ms = kernels    ms / kernel = ratio  same ten  hashes")
    for count, width in SIZES:
        with opened_page() as page:
            asked = {"rounds": ROUNDS, "count": count, "width": width, "plain": count <= FLOAT_ROWS}
            found = page.evaluate(MEASURE, asked)
        kernel, read = found["bound"]
        line = f"{count:7,} {width:5} {kernel:7.2f} / {read:6.2f} = {kernel / read:5.2f}"
        if found["loop"]:
            line += f"   {found['loop']:6.2f} = {found['loop'] / kernel:7.1f}"
            kernel, loop = found["turns"]
            line += f" {loop:6.2f} / {kernel:6.2f} = {loop / kernel:5.1f}  {found['same']!s:8}"
        print(line + " " * (93 - len(line)) + f"{found['hashes']:7.2f}", flush=True)


if __name__ == "__main__":
    main()
