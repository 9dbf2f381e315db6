"""A picture in the browser is what it is in Python: prepared, embedded, hashed, found and named the same."""

import base64
import json
import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from helpers.artifacts import IndexFolder
from helpers.embed.dhash import dhash
from helpers.embed.embedder import Embedder
from helpers.embed.preprocess import as_seen
from helpers.index.store import StoredIndex
from helpers.recognise.query import QueryEngine
from tests.browser import BLANK, Served
from tests.conftest import Built, run_well
from tests.pictures import write

if TYPE_CHECKING:
    from playwright.sync_api import Page

PARITY = int(os.environ.get("PARITY", "50"))  # JPEGs
EVERY = int(os.environ.get("EVERY", "4"))  # of so many real photographs one is asked; 1: all, in four minutes
LEAST_COSINE = 0.9999
LEAST_FIRST = 0.95  # of photographs, of which nothing may be sure: the best guess is the same
OPEN = """async (bundle) => {
  const { createRecogniser } = await import("/recogniser/index.js");
  window.recogniser = await createRecogniser({ bundle, encoder: "fp32" });
  await recogniser.ready;
}"""
DESCRIBE = """async ([url, how]) => {
  const { pixelsOf, rgbOf } = await import("/recogniser/picture.js");
  const { prepared, tensorOf } = await import("/recogniser/prepare.js");
  const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  const blob = await (await fetch(url)).blob();
  const pixels = prepared(rgbOf((await pixelsOf(blob, how.background)).image), how);
  const { vector, hash } = await recogniser.embed(blob);
  const whole = await recogniser.identify(blob, { detect: "off" });
  const tensor = new Uint8Array(tensorOf(pixels, how).buffer);
  return [base64(tensor), base64(new Uint8Array(vector.buffer)), base64(hash), whole.cards[0].matches[0].face.face_id];
}"""


class Described(NamedTuple):
    """A picture as the encoder gets it, and what comes of it."""

    tensor: NDArray[np.float32]  # [3, H, W]
    vector: NDArray[np.float32]  # [D]
    hash: NDArray[np.uint8]  # [32]
    face: str  # the best match, asked as a whole


def saved(picture: Image.Image, form: str, **how: Any) -> bytes:
    data = BytesIO()
    picture.save(data, form, **how)
    return data.getvalue()


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def jpegs(cards: Sequence[Image.Image], rng: np.random.Generator) -> Iterator[bytes]:
    """JPEGs of all sizes, as phones, scanners and web sites save them."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = srgb.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")  # red is blue
    for i, card in enumerate(cards):
        width, height = [(488, 680), (150, 800), rng.integers(60, 900, 2).tolist()][i % 3]  # tall ones go another way
        picture = card.resize((width, height))
        how: dict[str, Any] = {"quality": int(rng.integers(40, 100)), "subsampling": i % 3, "progressive": i % 5 == 0}
        if i % 4 == 1:
            how["exif"] = exif(1 + i // 4 % 8)
        if i % 7 == 2:
            how["icc_profile"] = profile
        yield saved(picture.convert("L") if i % 11 == 3 else picture, "JPEG", **how)


def pngs(cards: Sequence[Image.Image]) -> Iterator[bytes]:
    """PNGs in each mode that cards come in; scans of cards have transparent corners."""
    for i, card in enumerate(cards):
        rounded = card.convert("RGBA")
        mask = Image.new("L", card.size, 0)
        mask.paste(255, (12, 12, card.width - 12, card.height - 12))
        rounded.putalpha(mask)
        modes = (card, rounded, card.convert("P"), card.convert("L"), rounded.convert("LA"))
        yield saved(modes[i % len(modes)], "PNG", **({"gamma": 0.45} if i % 2 else {}))


@pytest.fixture(scope="module")
def raw(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same export without its whitened rows."""
    folder = tmp_path_factory.mktemp("raw")
    bundle = json.loads((exported / "bundle.json").read_text())
    del bundle["whitening"]
    write(folder / "raw.json", json.dumps(bundle).encode())
    return folder


def in_python(index: Path, files: Sequence[Path], *, raw: bool) -> list[Described]:
    """The pictures by the code that builds and asks an index."""
    engine = QueryEngine.load(index, read="off", verify="off", raw=raw)
    manifest = StoredIndex(IndexFolder(index)).manifest
    embedder = Embedder.load(manifest.source, manifest.preparation, "cpu")
    found = []
    for file in files:
        picture = as_seen(Image.open(file))
        prepared = embedder.prepare(picture)
        mean, deviation = (np.reshape(embedder.model_input[name], (3, 1, 1)) for name in ("mean", "std"))
        tensor = ((prepared.numpy() / 255 - mean) / deviation).astype(np.float32)
        card = engine.ask(file, detect="off").cards[0]
        found.append(Described(tensor, embedder.encode([prepared])[0], dhash(picture), card.matches[0].face.face_id))
    return found


def in_browser(page: "Page", url: str, bundle: str, files: Sequence[Path]) -> list[Described]:
    """The same by the page's recogniser."""
    page.goto(url + "blank.html")
    page.evaluate(OPEN, bundle)
    how = page.evaluate("async (bundle) => (await (await fetch(bundle)).json()).preprocessing", bundle)
    shape = (3, *how["input"]["size"])
    found = []
    for file in files:
        tensor, vector, digest, face = page.evaluate(DESCRIBE, [f"/{file.name}", how])
        numbers = [np.frombuffer(base64.b64decode(data), np.float32) for data in (tensor, vector)]
        found.append(
            Described(numbers[0].reshape(shape), numbers[1], np.frombuffer(base64.b64decode(digest), np.uint8), face)
        )
    return found


@pytest.mark.parametrize(
    ("jpeg_count", "png_count", "whitened"),
    [
        (6, 5, True),
        pytest.param(PARITY, PARITY // 5, True, marks=pytest.mark.slow),
        pytest.param(PARITY // 5, PARITY // 25, False, marks=pytest.mark.slow),
    ],
    ids=["some", "many", "many-raw"],
)
def test_pictures_are_the_same_in_the_browser(
    recognised: Built,
    drawn: Path,
    exported: Path,
    raw: Path,
    served: Served,
    page: "Page",
    tmp_path: Path,
    jpeg_count: int,
    png_count: int,
    whitened: bool,  # a parameter of the test
) -> None:
    rng = np.random.default_rng(0)
    sources = sorted(drawn.glob("*.jpg"))  # not the cache's: a port decides on the order there
    cards = [Image.open(sources[i % len(sources)]).convert("RGB") for i in range(jpeg_count + png_count)]
    files = [write(tmp_path / f"{i}.jpg", data) for i, data in enumerate(jpegs(cards[:jpeg_count], rng))]
    files += [write(tmp_path / f"{i}.png", data) for i, data in enumerate(pngs(cards[jpeg_count:]))]
    write(tmp_path / "blank.html", BLANK)
    url = served(exported, raw, tmp_path)
    here = in_python(recognised.index, files, raw=not whitened)
    there = in_browser(page, url, "/bundle.json" if whitened else "/raw.json", files)
    rows = []
    for file, ours, its in zip(files, here, there, strict=True):
        levels = float(np.abs(ours.tensor - its.tensor).max()) * 0.5 * 255  # the model's deviation is 0.5
        bits = int(np.unpackbits(ours.hash ^ its.hash).sum())
        rows.append((file.name, levels, float(ours.vector @ its.vector), bits, ours.face == its.face))
    same = sum(row[4] for row in rows)
    print(f"\n{len(rows)} pictures: tensors within {max(row[1] for row in rows):.4f} of 255, cosines from")
    print(f"{min(row[2] for row in rows):.7f}, {sum(row[3] for row in rows)} hash bits differ, same best match {same}")
    assert [row for row in rows if row[1] > 1.001 or row[2] < LEAST_COSINE or row[3] or not row[4]] == []


IDENTIFY = """async (url) => {
  const { cards } = await recogniser.identify(await (await fetch(url)).blob());
  return cards.map(({ sure, matches }) => [matches[0].face.name, Boolean(sure)]);
}"""


def named_in_both(index: Path, page: "Page", url: str, photos: Sequence[Path]) -> None:
    """Each photograph asked in Python, by looks alone, and in the page: the sure names must be the same."""
    engine = QueryEngine.load(index, read="off", verify="off")
    page.goto(url + "blank.html")
    page.evaluate(OPEN, "/bundle.json")
    differ, first, sure = {}, 0, 0
    for photo in photos:
        here = [(card.matches[0].face.name, bool(card.sure)) for card in engine.ask(photo).cards]
        there = [(name, is_sure) for name, is_sure in page.evaluate(IDENTIFY, f"/{photo.name}")]
        first += here[0] == there[0]
        ours, its = (sorted(name for name, is_sure in cards if is_sure) for cards in (here, there))
        sure += len(ours)
        if ours != its:
            differ[photo.name] = (ours, its)
    print(f"\n{len(photos)} photographs, {sure} sure cards; the same sure names in {len(photos) - len(differ)},")
    print(f"the same clearest card in {first}")
    assert differ == {}
    assert first >= LEAST_FIRST * len(photos)


@pytest.mark.slow
def test_photographs_show_the_same_cards_in_the_page(
    recognised: Built, drawn: Path, exported: Path, served: Served, page: "Page", tmp_path: Path
) -> None:
    run_well("scripts/take_photographs.py", "--table", drawn / "cards.jsonl", "--out", tmp_path, "--count", 3)
    write(tmp_path / "blank.html", BLANK)
    named_in_both(recognised.index, page, served(exported, tmp_path), sorted(tmp_path.glob("*.jpg")))


@pytest.mark.slow
def test_real_photographs_show_the_same_cards_in_the_page(
    real: Path, real_built: Built, served: Served, page: "Page", tmp_path: Path
) -> None:
    run_well("export_for_browser.py", "--input-dir", real_built.index, "--output-dir", tmp_path, "--encoder", "fp32")
    write(tmp_path / "blank.html", BLANK)
    photos = sorted((real / "photos").glob("*.jpg"))[::EVERY]
    named_in_both(real_built.index, page, served(tmp_path, real / "photos"), photos)
