"""web/recogniser in a real browser: what each part can do as soon as it is there, and what it says where it can't."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests import browser as browsers
from tests.browser import BLANK, Served, chromium
from tests.conftest import Built
from tests.pictures import write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

Change = Callable[[dict[str, Any]], object]  # of a bundle.json
OPEN = """async (options) => {
  const { createRecogniser } = await import("/recogniser/index.js");
  window.recogniser = await createRecogniser(options);
}"""
READY = "() => recogniser.ready.then(() => recogniser.info.encoder, (error) => error.code)"
IDENTIFY = """async ([url, options]) => {
  const blob = await (await fetch(url)).blob();
  return recogniser.identify(blob, options).catch((error) => error.code);
}"""


@pytest.fixture(scope="module")
def records(recognised: Built) -> list[dict[str, Any]]:
    return recognised.records()


@pytest.fixture(scope="module")
def pictures(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some cards as pictures, one of them upside down, and what is none."""
    folder = tmp_path_factory.mktemp("pictures")
    card = Image.open(sorted(drawn.glob("*.jpg"))[0]).convert("RGB").resize((488, 680))
    table = Image.new("RGB", (900, 1200), (96, 120, 84))
    table.paste(card.rotate(180), (200, 250))
    table.save(folder / "upside_down.jpg", quality=90)
    card.save(folder / "card.jpg")
    write(folder / "none.jpg", b"<!doctype html>")
    write(folder / "blank.html", BLANK)
    return folder


def without_encoders(bundle: dict[str, Any]) -> None:
    bundle["files"] = [file for file in bundle["files"] if file["role"] != "encoder"]


@pytest.fixture
def changed(exported: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """`changed(how)` is a folder whose bundle.json is that of the export after `how` has changed it."""

    def change(how: Change) -> Path:
        bundle = json.loads((exported / "bundle.json").read_text())
        how(bundle)
        write(tmp_path / "bundle.json", json.dumps(bundle).encode())
        return tmp_path

    return change


@pytest.fixture(scope="module")
def opened(browser: "Browser", exported: Path, pictures: Path, served: Served) -> "Iterator[Page]":
    """A page with a recogniser that is ready."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(served(exported, pictures) + "blank.html")
        page.evaluate(OPEN, {})
        assert page.evaluate(READY)["precision"] == "fp16"
        page.evaluate("() => recogniser.loaded")
        yield page


def test_names_are_found_by_their_words(opened: "Page", records: list[dict[str, Any]]) -> None:
    name = records[3]["name"]
    words = " ".join(reversed(name.upper().split()))
    found = opened.evaluate("(words) => recogniser.search(words)", words)
    expected = {row for row, face in enumerate(records) if face["name"] == name}
    assert expected <= {face["row"] for face in found["faces"]}
    assert all(face["face"] == records[face["row"]] for face in found["faces"])
    one_set = opened.evaluate("(set) => recogniser.search('', { set, limit: 2, offset: 1 })", records[0]["set"])
    assert one_set["total"] == sum(face["set"] == records[0]["set"] for face in records)
    assert len(one_set["faces"]) == min(2, one_set["total"] - 1)
    assert opened.evaluate("() => recogniser.search('no such card')") == {"total": 0, "faces": []}


def test_sets_have_names_and_counts(opened: "Page", records: list[dict[str, Any]]) -> None:
    sets = {one["set"]: (one["name"], one["count"]) for one in opened.evaluate("() => recogniser.sets()")}
    assert sets == {
        face["set"]: (face["set_name"], sum(other["set"] == face["set"] for other in records)) for face in records
    }


def test_the_nearest_faces_begin_with_the_face_itself(opened: "Page") -> None:
    found = opened.evaluate("() => recogniser.nearest(4, 3)")
    assert found[0]["row"] == 4
    assert found[0]["score"] == pytest.approx(1, abs=0.02)
    assert [match["score"] for match in found] == sorted((match["score"] for match in found), reverse=True)


def test_a_card_that_is_upside_down_is_named_and_placed(opened: "Page") -> None:
    whole = opened.evaluate(IDENTIFY, ["/card.jpg", {"detect": "off"}])["cards"][0]
    answer = opened.evaluate(IDENTIFY, ["/upside_down.jpg", {}])
    card = answer["cards"][0]
    assert answer["size"] == [900, 1200]
    assert card["matches"][0]["face"]["name"] == whole["matches"][0]["face"]["name"]
    assert card["sure"] is True
    assert card["orientation"] == 180
    assert card["quad"][0] == pytest.approx([688, 930], abs=8)  # its own top left is at the picture's lower right
    assert 0.9 < card["confidence"] <= 1


def test_pictures_that_are_asked_at_once_get_their_own_answers(opened: "Page") -> None:
    asked = """async () => {
      const blobs = await Promise.all(["/card.jpg", "/upside_down.jpg"].map(async (url) => (await fetch(url)).blob()));
      const ask = (blob) => recogniser.identify(blob, { detect: "off" });
      const answers = await Promise.all([...blobs, ...blobs].map(ask));
      return answers.map((answer) => answer.size[0]);
    }"""
    assert opened.evaluate(asked) == [488, 900, 488, 900]


def test_what_is_no_picture_is_refused(opened: "Page") -> None:
    assert opened.evaluate(IDENTIFY, ["/none.jpg", {}]) == "bad-picture"


def test_a_bitmap_is_the_caller_s_own_and_options_that_are_not_given_are_the_usual_ones(opened: "Page") -> None:
    asked = """async () => {
      const bitmap = await createImageBitmap(await (await fetch("/card.jpg")).blob());
      const options = { regions: undefined, detect: undefined };
      const first = await recogniser.identify(bitmap, options);
      const second = await recogniser.identify(bitmap, { detect: "off" });
      const wrong = await recogniser.identify(bitmap, { detect: "some" }).catch((error) => error.message);
      return [bitmap.width, first.cards[0].matches[0].face.name === second.cards[0].matches[0].face.name, wrong];
    }"""
    width, same, wrong = opened.evaluate(asked)
    assert (width, same) == (488, True)
    assert "detect must be auto, off or all, not some" in wrong


def test_a_picture_that_a_canvas_can_not_hold_is_drawn_smaller(opened: "Page") -> None:
    drawn = """async () => {
      const { pixelsOf } = await import("/recogniser/picture.js");
      const original = OffscreenCanvas.prototype.getContext;
      OffscreenCanvas.prototype.getContext = function (...how) {
        return this.width * this.height > 2 ** 24 ? null : original.apply(this, how);  // as on a phone
      };
      const large = await createImageBitmap(new ImageData(5000, 4000));
      const { image, scale } = await pixelsOf(large, [0, 0, 0]);
      OffscreenCanvas.prototype.getContext = original;
      return [image.width * image.height, image.width * scale, image.height * scale];
    }"""
    pixels, width, height = opened.evaluate(drawn)
    assert pixels <= 2**24
    assert (width, height) == (pytest.approx(5000), pytest.approx(4000, abs=2))


def test_names_in_print_and_other_apostrophes_are_found(opened: "Page") -> None:
    found = """async () => {
      const { Faces } = await import("/recogniser/faces.js");
      const faces = new Faces();
      faces.append([{ name: "Urza's Élan", printed_name: "ウルザの鋭気", set: "a" }, { name: "Urzas", set: "a" }]);
      return ["urza’s elan", "ウルザ", "URZA", "elan urza"].map((words) => faces.search(words).total);
    }"""
    assert opened.evaluate(found) == [1, 1, 2, 1]


def test_who_asks_a_closed_recogniser_is_told(exported: Path, pictures: Path, served: Served, page: "Page") -> None:
    page.goto(served(exported, pictures) + "blank.html")
    page.evaluate(OPEN, {"encoder": "none"})
    asked = """async () => {
      recogniser.close();
      return Promise.all([recogniser.search(""), recogniser.ready].map((one) => one.catch((error) => error.message)));
    }"""
    assert page.evaluate(asked)[0] == "the recogniser was closed"


def test_a_browser_that_can_not_tell_of_frames_identifies_them(opened: "Page") -> None:
    watched = """async () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 488, height: 680 });
      const card = await createImageBitmap(await (await fetch("/card.jpg")).blob());
      const context = canvas.getContext("2d");
      const video = Object.assign(document.createElement("video"), { muted: true, srcObject: canvas.captureStream() });
      context.drawImage(card, 0, 0);
      await video.play();
      Object.defineProperty(video, "requestVideoFrameCallback", { value: undefined });
      const name = await new Promise((resolve, reject) => {
        const onCard = ({ matches }) => resolve(matches[0].face.name);
        window.watching = recogniser.watch(video, { onCard, onError: reject });
      });
      watching.stop();
      return name;
    }"""
    whole = opened.evaluate(IDENTIFY, ["/card.jpg", {"detect": "off"}])["cards"][0]
    assert opened.evaluate(watched) == whole["matches"][0]["face"]["name"]


def test_names_can_be_searched_before_the_encoder_has_arrived(
    exported: Path, pictures: Path, served: Served, page: "Page"
) -> None:
    held: list[Route] = []
    page.context.route("**/encoder-fp16.onnx*", lambda route: held.append(route))  # noqa: PLW0108  # it is given attributes
    page.goto(served(exported, pictures) + "blank.html")
    page.evaluate(OPEN, {})
    assert page.evaluate("() => recogniser.search('')")["total"] > 0
    assert len(page.evaluate("() => recogniser.nearest(0)")) == 5
    assert page.evaluate("() => Promise.race([recogniser.ready.then(() => 'ready'), 'not ready'])") == "not ready"
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    assert page.evaluate(READY)["device"] == "wasm"


@pytest.mark.parametrize(
    ("how", "options", "code"),
    [
        pytest.param(without_encoders, {}, "no-encoder", id="none"),
        pytest.param(lambda bundle: None, {"encoder": "int8"}, "no-encoder", id="not in this precision"),
        pytest.param(lambda bundle: bundle["reference"].reverse(), {}, "wrong-numbers", id="wrong numbers"),
        pytest.param(lambda bundle: None, {"vendor": "/nowhere/"}, "no-vendor", id="no libraries"),
        pytest.param(lambda bundle: None, {"encoder": "none"}, "no-encoder", id="search only"),
    ],
)
def test_what_hinders_identifying_is_told_and_names_are_found(
    changed: Callable[[Change], Path],
    exported: Path,
    pictures: Path,
    served: Served,
    page: "Page",
    problems: list[str],
    how: Change,
    options: dict[str, str],
    code: str,
) -> None:
    page.goto(served(changed(how), exported, pictures) + "blank.html")
    page.evaluate(OPEN, options)
    assert page.evaluate(READY) == code
    assert page.evaluate(IDENTIFY, ["/card.jpg", {}]) == code
    assert page.evaluate("() => recogniser.search('')")["total"] > 0
    problems.clear()  # the file that is not there


def test_a_damaged_library_is_named(
    exported: Path, pictures: Path, served: Served, page: "Page", problems: list[str]
) -> None:
    page.context.route("**/ort-wasm-simd-threaded.wasm", lambda route: route.fulfill(body=b"<!doctype html>"))
    page.goto(served(exported, pictures) + "blank.html")
    page.evaluate(OPEN, {})
    assert page.evaluate(READY) == "no-vendor"
    problems.clear()  # onnxruntime's own words


def test_records_that_are_not_those_of_the_bundle_are_refused(
    changed: Callable[[Change], Path], exported: Path, pictures: Path, served: Served, page: "Page"
) -> None:
    meta = json.loads((exported / "meta.json").read_text())
    meta["records"].pop()
    data = json.dumps(meta).encode()

    def fewer(bundle: dict[str, Any]) -> None:
        (file,) = (one for one in bundle["files"] if one["role"] == "records")
        file |= {"path": "fewer.json", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    folder = changed(fewer)
    write(folder / "fewer.json", data)
    page.goto(served(folder, exported, pictures) + "blank.html")
    assert page.evaluate(f"(options) => ({OPEN})(options).catch((error) => error.code)", {}) == "wrong-size"


def test_a_browser_without_simd_searches_and_says_what_it_can_not_do(
    browser: "Browser", exported: Path, pictures: Path, served: Served
) -> None:
    flags = ["--no-sandbox", "--js-flags=--no-enable-sse4-1"]
    with browser.browser_type.launch(executable_path=chromium(), args=flags) as old, browsers.opened(old, []) as page:
        page.goto(served(exported, pictures) + "blank.html")
        page.evaluate(OPEN, {})
        assert page.evaluate(READY) == "no-simd"
        assert page.evaluate("() => recogniser.nearest(4, 3)")[0]["row"] == 4


def test_without_a_gpu_pictures_are_embedded_by_wasm(
    exported: Path, pictures: Path, served: Served, page: "Page", problems: list[str]
) -> None:
    page.goto(served(exported, pictures) + "blank.html")
    page.evaluate(OPEN, {"device": "webgpu"})
    assert page.evaluate(READY)["device"] == "wasm"
    problems.clear()  # onnxruntime says that there is no adapter


def test_an_index_without_hashes_and_whitening_names_cards(
    changed: Callable[[Change], Path], exported: Path, pictures: Path, served: Served, page: "Page"
) -> None:
    def older(bundle: dict[str, Any]) -> None:
        del bundle["dhash"], bundle["whitening"]

    page.goto(served(changed(older), exported, pictures) + "blank.html")
    page.evaluate(OPEN, {})
    page.evaluate(READY)
    card = page.evaluate(IDENTIFY, ["/card.jpg", {"detect": "off"}])["cards"][0]
    assert card["matches"][0]["score"] > 0.98
