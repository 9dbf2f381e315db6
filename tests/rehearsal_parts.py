"""What `make rehearsal` runs in processes of their own, beside the project's scripts: see tests/rehearsal.py.

`python -m tests.rehearsal_parts PART FOLDER …` prints what it measured as lines of JSON: what, seconds.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tests.made_list import CARDS, FACES, Cards, announce, write_list
from tests.made_rows import Like, flipped, printed, typical

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from helpers.evaluate.queries import Queries

MODEL = "cards"  # 512 dimensions, whitened to 256: as many as CLIP's ViT-B/32
TOGETHER = 13_500  # rows made at a time; all printings of a card are among them
LINKS = 30  # pictures, which all faces share: disks allow 65,000 links to a file, and more
ASKED = 48  # queries
JUDGED = 50  # cards that the evaluation asks, under each of its conditions
FEW_TWINS = 0.1  # share of a hash's bits in which printings of a card differ, and an eighth for a photograph
PATIENCE_MS = 600_000


def tell(what: str, seconds: float) -> None:
    """Print a figure."""
    print(json.dumps([what, seconds]), flush=True)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Time a block, and print that."""
    started = time.perf_counter()
    yield
    tell(what, time.perf_counter() - started)


# ------------------------------------------------------------------------------------------------------------- making


def cards_shown(faces: int) -> NDArray[np.int64]:
    """Which card each of the faces shows: few cards have many printings, and these are apart."""
    rng, shown, count = np.random.default_rng(1), [np.empty(0, np.int64)], 0
    for start in range(0, faces, TOGETHER):
        some = printed(min(TOGETHER, faces - start), rng)
        shown.append(count + rng.permutation(some))
        count += int(some[-1]) + 1
    return np.concatenate(shown)


def make_list(served: Path, faces: int, address: str) -> None:
    """Write a list of so many faces; of FACES it has CARDS cards."""
    shown = cards_shown(faces).tolist()

    @cache
    def name(card: int) -> str:
        """Two or three words of letters."""
        letters = np.random.default_rng((2, card)).integers(97, 123, (3, 8), np.uint8)
        return " ".join(bytes(word[: 3 + (card + place) % 6]).decode().title() for place, word in enumerate(letters))

    write_list(served, round(faces * CARDS / FACES), Cards(address, lambda face: name(shown[face])), faces)
    announce(served, address)


def make_rows(cache_folder: Path, out: Path, faces: int) -> None:
    """Leave what a build that is done but for the index leaves: a checkpoint with a row for each face, and pictures.

    The pictures are files of a few bytes that no decoder takes. A row has the file's size and time, so that a build
    takes the row for the picture's, as it would after a kill.
    """
    from helpers.artifacts import IndexFolder
    from helpers.build.rows import open_checkpoint
    from helpers.cards.card_list import FaceTally, iter_faces
    from helpers.cards.faces import Selection
    from helpers.cards.image_cache import ImageCache
    from helpers.embed.embedder import Embedder
    from helpers.embed.model_source import find_model
    from helpers.embed.preprocess import Preparation

    settings = Embedder.load(find_model(MODEL, ""), Preparation(384, "pad"), "cpu").settings
    (card_list,) = cache_folder.glob("all_cards-*")
    urls = (face.image_url for face in iter_faces(card_list, Selection("all_cards"), FaceTally()))
    shown, rng, images = cards_shown(faces), np.random.default_rng(3), ImageCache(cache_folder)
    like = Like(typical(), rng)
    out.mkdir()
    with open_checkpoint(IndexFolder(out), settings, 4 * TOGETHER, resume=False) as checkpoint:
        for start in range(0, faces, TOGETHER):
            card = shown[start : start + TOGETHER]
            checkpoint.append(_rows(card - card.min(), like, rng, [_linked(images, next(urls)) for _ in card]))
        checkpoint.finish()


def _linked(images: Any, url: str) -> tuple[bytes, os.stat_result]:
    """Put a picture of this URL into the cache; its URL's SHA-1, and the file's size and time."""
    from helpers.cards.pictures import url_sha1

    digest = url_sha1(url)
    first, path = images.root / f"{digest[0] % LINKS:040x}.jpg", images.path_for(url)
    if not first.exists():
        first.write_bytes(b"no picture")
    path.hardlink_to(first)
    return digest, path.stat()


def _rows(
    card: NDArray[np.int64], like: Any, rng: np.random.Generator, files: list[tuple[bytes, os.stat_result]]
) -> Any:
    from helpers.cards.pictures import PICTURE
    from helpers.embed.settings import Rows

    pictures = np.zeros(len(card), PICTURE)
    pictures["url_sha1"] = np.frombuffer(b"".join(digest for digest, _ in files), "V20")
    pictures["size"] = [state.st_size for _, state in files]
    pictures["mtime_ns"] = [state.st_mtime_ns for _, state in files]
    hashes = rng.integers(0, 256, (card.max() + 1, 32), np.uint8)[card]
    return Rows(like.printings(card), pictures, flipped(hashes, FEW_TWINS, rng))


# ------------------------------------------------------------------------------------------------------------- asking


def seen(rows: NDArray[np.float32], hashes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The rows and hashes as photographs of their pictures would have them."""
    rng = np.random.default_rng(4)
    return Like(typical(), rng).seen(rows), flipped(hashes, 0.125, rng)


def ask(out: Path) -> None:
    """Open an index without its encoder, and ask it by vectors and hashes."""
    from helpers.embed.vectors import evenly
    from helpers.recognise.query import open_index, open_ranker
    from helpers.recognise.ranking import CANDIDATES
    from helpers.recognise.where import Where

    with told("query: open the index, without the encoder"):
        stored = open_index(out)
        records = stored.records()
        ranker = open_ranker(stored, records, None)
    rows, hashes, whitening = stored.vectors(), stored.hashes(), stored.whitening()
    assert hashes is not None
    assert whitening is not None
    numbers = evenly(stored.count, ASKED)
    vectors, digests = seen(rows[numbers], hashes[numbers])
    mapped = whitening(vectors)
    each("query: one cut-out, by the default rule", lambda one: ranker.answer(vectors[one], digests[one]))
    each("query: its vectors, exactly", lambda one: ranker.index.search_exactly(mapped[one], CANDIDATES))
    each("query: its vectors, by HNSW", lambda one: ranker.index.search(mapped[one], CANDIDATES))
    with told("query: rows that pass --where set=s1"):
        Where.parse("set=s1").rows(records)
    with told("query: the rows of a name, for the first time"):
        ranker.rows_of([records[0].name])


def each(what: str, ask_one: Callable[[slice], object]) -> None:
    """Time each query, and print the median."""
    took = []
    for number in range(ASKED):
        started = time.perf_counter()
        ask_one(slice(number, number + 1))
        took.append(time.perf_counter() - started)
    tell(what, median(took))


def judge(out: Path) -> None:
    """The sections of an evaluation that need pictures, with queries that are generated as vectors and hashes."""
    from helpers.evaluate.answers import Catalogue, answers
    from helpers.evaluate.dense import Dense, Way
    from helpers.evaluate.size import size
    from helpers.evaluate.strangers import strangers
    from helpers.recognise.query import open_index, open_ranker

    stored = open_index(out)
    records = stored.records()
    ranker, catalogue = open_ranker(stored, records, None), Catalogue.of(records)
    rows, hashes = np.ascontiguousarray(stored.vectors()), stored.hashes()
    assert hashes is not None
    weights = dict.fromkeys(("raw", "centred", "whitened"), ranker.settings.hash_weight)
    dense = Dense.of(rows, stored.whitening(), {"dHash": np.asarray(hashes)}, weights)
    asked = _queries(rows, np.asarray(hashes))
    with told(f"evaluation: {len(asked)} answers"):
        given = answers(ranker, asked, catalogue)
    with told("evaluation: the same as strangers"):
        strangers(ranker, asked, given, catalogue, suggests=True)
    with told("evaluation: recall by size"):
        size(dense, Way("whitened", "dHash"), asked, catalogue, 0)


def _queries(rows: NDArray[np.float32], hashes: NDArray[np.uint8]) -> "Queries":
    from helpers.evaluate.queries import ROUNDS, Queries
    from helpers.evaluate.strangers import CONDITIONS_ASKED

    picked = np.random.default_rng(5).choice(len(rows), JUDGED, replace=False)
    condition = np.repeat(CONDITIONS_ASKED, JUDGED)
    row = np.tile(picked, len(CONDITIONS_ASKED))
    vectors, digests = seen(rows[row], hashes[row])
    return Queries(row, condition, np.arange(len(row)) % ROUNDS, vectors, digests, digests)


# ------------------------------------------------------------------------------------------------------------ browser

LIBRARY = """async () => {
  const { createRecogniser } = await import("./recogniser/index.js");
  const took = {};
  const timed = async (what, work) => {
    const begun = performance.now();
    const result = await work();
    took[what] = (performance.now() - begun) / 1000;
    return result;
  };
  const recogniser = await timed("browser: open, without the encoder", () => createRecogniser({ encoder: "none" }));
  await timed("all names after that", () => recogniser.loaded);
  await timed("all rows after that, and a search of them", () => recogniser.nearest(0, 10));
  await timed("browser: a search of the rows", () => recogniser.nearest(1, 10));
  await timed("browser: a search by name", () => recogniser.search("ab", {}));
  await timed("browser: the list of sets", () => recogniser.sets());
  return took;
}"""


def browse(export: Path) -> None:
    """Open an export in a real browser: on the page, then by the library alone."""
    from tests.browser import BLANK, serving_web

    (export / "blank.html").write_bytes(BLANK)
    with serving_web(export) as server:
        with page_of(server.url, "the page") as page:
            _open_page(page)
        with page_of(server.url + "blank.html", "the library") as page:
            took: dict[str, float] = page.evaluate(LIBRARY)
            for what, seconds in took.items():
                if what.startswith("browser"):
                    tell(what, seconds)
            tell("browser: load all names and rows", sum([*took.values()][:3]))


def _open_page(page: "Page") -> None:
    started = time.perf_counter()
    hits = page.locator("#hits")
    page.wait_for_function("() => /card face/.test(document.querySelector('#hits').textContent)")
    tell("browser: the page shows cards", time.perf_counter() - started)
    page.wait_for_function("() => /card face(?!.*so far)/.test(document.querySelector('#hits').textContent)")
    tell("browser: the page knows all names", time.perf_counter() - started)
    before = hits.text_content()
    started = time.perf_counter()
    page.get_by_label("Name").fill("abc")
    page.wait_for_function("before => document.querySelector('#hits').textContent !== before", arg=before)
    tell("browser: what was typed is found", time.perf_counter() - started)


@contextmanager
def page_of(address: str, what: str) -> "Iterator[Page]":
    """A page in a browser of its own; at the end its memory is told: the most that its process had, in bytes."""
    from playwright.sync_api import sync_playwright

    from tests.browser import chromium

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{address}?encoder=none", wait_until="commit")
        yield page
        tell(f"memory: browser: {what}", max(_peaks_of_renderers(), default=0))
        browser.close()


def _peaks_of_renderers() -> Iterator[int]:
    """The peak memory of each of our browser's processes that have a page, in bytes; none but on Linux."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if b"--type=renderer" in command.read_bytes() and _is_below(command.parent, os.getpid()):
                yield 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", (command.parent / "status").read_text())[0])


def _is_below(process: Path, ancestor: int) -> bool:
    while process.name not in ("0", "1", str(ancestor)):
        parent = re.findall(r"PPid:\s+(\d+)", (process / "status").read_text())[0]
        process = process.parent / parent
    return process.name == str(ancestor)


def main() -> None:
    part, *given = sys.argv[1:]
    if part == "list":
        make_list(Path(given[0]), int(given[1]), given[2])
    elif part == "rows":
        make_rows(Path(given[0]), Path(given[1]), int(given[2]))
    else:
        {"ask": ask, "judge": judge, "browse": browse}[part](Path(given[0]))


if __name__ == "__main__":
    main()
