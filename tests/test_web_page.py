"""The page, in a real browser, over a stand-in for the recogniser: what its users see, hear and can do."""

import csv
import io
import json
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.artifacts import WEB
from tests import browser as browsers
from tests.web_site import FACES, answer, card, draw_photo, error, scenario, site, write_y4m

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NONE: Mapping[str, Any] = {}
Opened = Callable[..., "Page"]
MISSING = error(
    "no-bundle", "There is no index here", "bundle.json: 404", "Run make export ARGS=--encoder, then make serve"
)
NO_ENCODER = error("no-encoder", "No encoder was exported", "none in bundle.json", "Run make export ARGS=--encoder")
THREE = answer(
    card(3),
    card(
        44, 1, sure=False, printings=[{"row": r, "score": 0.9, "face": FACES[r]} for r in (44, 45)], printingSure=False
    ),
    card(77, 2, orientation=180),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, and what the site is made of."""
    folder = tmp_path_factory.mktemp("site")
    draw_photo(FACES[3], FACES[44], FACES[77]).save(folder / "three.jpg")
    draw_photo(FACES[3]).save(folder / "one.jpg")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with site(folder) as url:
        yield url


@pytest.fixture(scope="module")
def filming(browser: "Browser", folder: Path) -> "Iterator[Browser]":
    """A browser whose camera shows a card."""
    write_y4m(folder / "film.y4m", [draw_photo(FACES[3])] * 2)
    flags = [
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={folder / 'film.y4m'}",
    ]
    film = browser.browser_type.launch(executable_path=browsers.chromium(), args=["--no-sandbox", *flags])
    yield film
    film.close()


@pytest.fixture
def opened(browser: "Browser", address: str, problems: list[str]) -> Iterator[Opened]:
    """`opened(view, by=a browser, at=an address, context=its options, **scenario)`: a page. None may have problems."""
    with ExitStack() as stack:

        def opens(
            view: str = "",
            *,
            by: "Browser | None" = None,
            at: str = "",
            context: dict[str, Any] | None = None,
            **told: Any,
        ) -> "Page":
            options = {"service_workers": "block", **(context or {})}
            page = stack.enter_context(browsers.opened(by or browser, problems, **options))
            page.set_default_timeout(30_000)
            page.add_init_script(scenario(**told))
            page.goto(f"{at or address}#{view}")
            return page

        yield opens
    assert problems == []


def names(page: "Page", inside: str = "#grid") -> list[str]:
    return page.locator(f"{inside} .name").all_inner_texts()


def message(page: "Page", inside: str) -> str:
    box = page.locator(f"{inside} .message")
    box.wait_for()
    return box.inner_text()


def until(page: "Page", expression: str) -> None:
    """Wait for something in the page; its policy forbids playwright's own wait_for_function."""
    for _ in range(300):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    raise AssertionError(expression)


def drop(page: "Page", *pictures: Path) -> None:
    """Drop files onto the page, as the system's file manager would."""
    give(page, "drop", "dataTransfer", *pictures)


def give(page: "Page", kind: str, field: str, *pictures: Path) -> None:
    page.evaluate(
        """([kind, field, files]) => {
          const data = new DataTransfer();
          for (const [name, text] of files) {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            data.items.add(new File([bytes], name, {type: "image/jpeg"}));
          }
          const event = kind === "drop" ? new DragEvent(kind, {[field]: data, bubbles: true, cancelable: true})
            : new ClipboardEvent(kind, {[field]: data, bubbles: true, cancelable: true});
          document.body.dispatchEvent(event);
        }""",
        [kind, field, [[picture.name, b64encode(picture.read_bytes()).decode()] for picture in pictures]],
    )


def test_the_service_worker_keeps_every_file_of_the_page() -> None:
    kept = set(
        re.findall(r'"([\w./-]+\.(?:js|css|svg|wasm))"', (WEB / "service-worker.js").read_text(encoding="utf-8"))
    )
    kinds = (".js", ".css", ".svg", ".wasm")
    there = {path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if path.suffix in kinds}
    alone = {"service-worker.js", "recogniser/types.js"}  # itself, and comments
    assert kept == {path for path in there - alone if not path.startswith("vendor/")}


def test_cards_are_found_as_words_are_typed_and_by_set(opened: Opened) -> None:
    page = opened()
    page.get_by_text("130 card faces, the first 36 are shown").wait_for()
    assert page.locator("#set option").all_inner_texts()[1:] == [
        "Chronicles of Testing (TSC), 43",
        "Test Beginnings (TSA), 44",
        "Test Remastered (TSB), 43",
    ]
    page.get_by_role("searchbox", name="Name").press_sequentially("drake fr")
    page.get_by_text("1 card face", exact=True).wait_for()
    assert names(page) == ["Frost Drake"]
    page.get_by_label("Name").fill("drake")
    page.get_by_label("Set", exact=True).select_option("tsa")
    page.get_by_text("5 card faces", exact=True).wait_for()
    page.get_by_label("Name").fill("no such card")
    page.get_by_text("No card has such a name").wait_for()


def test_more_cards_are_shown_and_focus_goes_to_the_first_of_them(opened: Opened) -> None:
    page = opened()
    page.get_by_role("button", name="Show more (94 left)").click()
    page.get_by_role("button", name="Show more (58 left)").wait_for()
    assert len(names(page)) == 72
    assert names(page)[36] in page.evaluate("document.activeElement.innerText")


def test_what_is_shown_is_completed_when_the_last_names_are_there(opened: Opened) -> None:
    page = opened(first=50)
    page.get_by_text("50 card faces so far, the first 36 are shown").wait_for()
    page.get_by_role("button", name="Show more (14 left)").click()
    page.get_by_label("Set", exact=True).select_option("tsa")
    page.get_by_label("Name").fill("moon")
    page.get_by_text("No card has such a name so far").wait_for()
    page.get_by_label("Name").fill("hydra")
    page.get_by_text("1 card face so far").wait_for()
    page.locator("#grid button").last.focus()
    focused = page.evaluate("document.activeElement.innerText")
    page.evaluate("stub.load()")
    page.get_by_text("4 card faces", exact=True).wait_for()
    assert page.evaluate("document.activeElement.innerText") == focused
    page.get_by_text("Test Beginnings (TSA), 44").wait_for(state="attached")
    assert page.get_by_label("Set", exact=True).input_value() == "tsa"


def test_names_that_can_not_be_had_are_told_above_those_there_are(opened: Opened) -> None:
    page = opened(first=50)
    page.get_by_text("50 card faces so far").wait_for()
    page.evaluate("told => stub.failLoad(told)", error("network", "A file of the index can't be fetched"))
    assert "A file of the index can't be fetched" in message(page, "#search-message")
    page.get_by_label("Name").fill("hydra")
    page.get_by_text(re.compile(r"^\d card faces so far")).wait_for()
    assert page.locator("#search-message .message").is_visible()


def test_pictures_come_from_the_server_where_it_has_them_else_the_name_stands_there(
    opened: Opened,
    problems: list[str],
) -> None:
    nowhere = {**FACES[1], "name": "Nowhere", "image_url": "https://cards.invalid/none.jpg", "card_url": "javascript:1"}
    page = opened(faces=[FACES[0], nowhere])
    page.locator("#grid .placeholder").wait_for()
    assert page.locator("#grid .placeholder").inner_text() == "Nowhere"
    shown = page.locator("#grid img").first
    assert "/pictures/" in str(shown.get_attribute("src"))
    assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 122
    assert "404" in problems.pop()  # the browser tells of it


def test_a_card_is_shown_large_with_its_nearest_by_keyboard_alone(opened: Opened) -> None:
    page = opened()
    page.locator("#grid button").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
    page.get_by_label("Set", exact=True).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Ashen Bear")
    dialog.locator(".near li").first.wait_for()
    assert page.evaluate("document.activeElement.id") == "face-name"
    assert "Test Remastered (TSB)" in dialog.inner_text()
    assert "Lena Varga" in dialog.inner_text()
    assert page.get_by_role("link", name="See it on Scryfall").get_attribute("href") == FACES[1]["scryfall_uri"]
    assert len(names(page, ".near")) == 12
    assert "Ashen Bear" not in names(page, ".near")
    assert "score\xa00.970" in dialog.locator(".near li").first.inner_text()
    dialog.locator(".near button").first.press("Enter")
    page.get_by_role("dialog", name="Ashen Archer").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert "Ashen Bear" in page.evaluate("document.activeElement.innerText")


def test_what_cards_are_called_is_text_never_markup(opened: Opened) -> None:
    hostile = {
        **FACES[0],
        **dict.fromkeys(("name", "set_name", "artist"), "<img src=x onerror=document.title='hacked'>"),
        "scryfall_uri": "javascript:document.title='hacked'",
    }
    page = opened(faces=[hostile], answers=[answer({**card(3), "matches": [{"row": 0, "score": 1, "face": hostile}]})])
    page.locator("#grid button").click()
    page.locator("dialog .facts").wait_for()
    assert page.locator("dialog a").count() == 0
    assert page.locator("img[onerror]").count() == 0
    assert page.title() == "MTG Image DB"


def test_tabs_follow_arrow_keys_and_the_address(opened: Opened) -> None:
    page = opened("identify")
    page.get_by_role("tabpanel", name="Identify").wait_for()
    page.get_by_role("tab", name="Identify").press("ArrowRight")
    page.get_by_role("tabpanel", name="Search").wait_for()
    assert page.evaluate("document.activeElement.id") == "tab-search"
    assert page.url.endswith("#search")
    assert page.get_by_role("tab", name="Identify").get_attribute("tabindex") == "-1"


@pytest.mark.parametrize("how", ["drop", "paste", "choose"])
def test_pictures_are_dropped_pasted_or_chosen(opened: Opened, folder: Path, how: str) -> None:
    page = opened(answers=[THREE, answer(card(3))])
    page.locator("#grid li").first.wait_for()
    pictures = [folder / "three.jpg", folder / "one.jpg"]
    if how == "choose":
        page.get_by_role("tab", name="Identify").click()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose pictures").click()
        chooser.value.set_files(pictures)
    else:
        give(page, how, "dataTransfer" if how == "drop" else "clipboardData", *pictures)
    page.get_by_text("Ashen Drake (sure).").wait_for()
    assert page.locator(".answer > h3").all_inner_texts() == ["three.jpg", "one.jpg"]
    assert page.locator(".found").count() == 4


def test_each_card_is_outlined_numbered_and_described(opened: Opened, folder: Path) -> None:
    page = opened(answers=[THREE])
    drop(page, folder / "three.jpg")
    page.get_by_text("3 cards: Ashen Drake (sure), Ember Elf (not sure), Hollow Hydra (sure).").wait_for()
    outlined = page.locator(".outlines g")
    assert [item.get_attribute("class") for item in outlined.all()] == ["sure", "unsure", "sure"]
    assert (
        outlined.nth(1).locator("polygon").last.get_attribute("points")
        == "544.0,75.0 896.0,75.0 896.0,565.0 544.0,565.0"
    )
    assert page.locator(".outlines text").all_text_contents() == page.locator(".found .number").all_inner_texts()
    picture, drawing = page.locator(".stage img").bounding_box(), page.locator(".outlines").bounding_box()
    assert picture == drawing
    first, second, third = page.locator(".found").all_inner_texts()
    for words in ("Sure", "Test Beginnings · TSA\xa03", "1.400", "0.520", "99 %"):
        assert words in first
    for words in ("Not sure", "or another printing", "It may be any of 2 printings", "41 %"):
        assert words in second
    assert "180°" in third
    assert page.locator(".found").first.locator(".matches img").count() == 5


def test_a_picture_without_cards_or_that_is_none_is_said_to_be_so(opened: Opened, folder: Path) -> None:
    broken = error("bad-picture", "This is no picture", "one.jpg", "Choose a JPEG, PNG or WebP")
    page = opened(answers=[answer(), broken, answer(card(3))])
    drop(page, folder / "one.jpg", folder / "one.jpg", folder / "one.jpg")
    page.locator(".found").wait_for()
    assert "No card was found" in page.locator(".answer").first.inner_text()
    assert "This is no picture" in message(page, ".answer:nth-child(2)")


def test_seen_cards_are_counted_kept_and_removed(opened: Opened, folder: Path) -> None:
    page = opened(answers=[THREE, answer(card(3))])
    drop(page, folder / "three.jpg", folder / "one.jpg")
    page.locator("#seen-list li").nth(1).wait_for()
    page.locator("#seen-list .badge").wait_for()
    assert page.locator("#seen-list .name").all_inner_texts() == [
        "Ashen Drake",
        "Hollow Hydra",
    ]  # the unsure one is not
    assert page.locator("#seen-list li").first.locator(".badge").inner_text() == "×2"
    page.reload()
    page.get_by_role("button", name="Remove Hollow Hydra").click()
    assert names(page, "#seen-list") == ["Ashen Drake"]
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#seen-list li").count() == 0
    assert page.evaluate("document.activeElement.id") == "seen"


def test_the_list_is_copied_as_text_and_saved_as_csv_without_formulas(opened: Opened, folder: Path) -> None:
    formula = {**FACES[3], "name": '=HYPERLINK("http://evil","x")', "collector_number": "-1"}
    told = {**card(5), "matches": [{"row": 5, "score": 1, "face": formula}], "printings": []}
    page = opened(answers=[answer(told, card(3, 1))], context={"permissions": ["clipboard-read", "clipboard-write"]})
    drop(page, folder / "three.jpg")
    page.get_by_role("button", name="Copy as text").click()
    page.get_by_text("Text of 2 cards copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").splitlines()[0] == "1 Ashen Drake (TSA) 3"
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    saved = download.value.path().read_bytes()
    assert saved.count(b"\r\n") == saved.count(b"\n") == 3
    header, first, second = csv.reader(io.StringIO(saved.decode("utf-8-sig")))
    assert header == ["name", "set", "collector_number", "printing_sure", "score", "time", "count"]
    assert first[:5] == ["Ashen Drake", "tsa", "3", "yes", "1.4000"]
    assert second[:3] == ['\'=HYPERLINK("http://evil","x")', "tsa", "'-1"]


CODES = [
    *("wrong-version", "wrong-size", "damaged", "no-simd", "little-memory", "insecure", "network", "no-bundle"),
    *("no-encoder", "no-vendor", "wrong-numbers"),
]


def test_each_failure_is_told_in_three_lines_where_it_matters(opened: Opened, folder: Path) -> None:
    page = opened(fails=MISSING)
    assert message(page, "#general-message").splitlines()[0] == "There is no index here"
    assert page.locator(".message code").all_inner_texts() == ["make export ARGS=--encoder", "make serve"]
    for code in CODES:
        page.evaluate("told => { scenario.fails = told; }", error(code, f"It is {code}", "a detail", "Mend it"))
        page.get_by_role("button", name="Try again").click()
        page.get_by_text(f"It is {code}").wait_for()
        assert [line for line in message(page, "#general-message").splitlines() if line] == [
            *(f"It is {code}", "a detail", "Mend it", "Try again"),
        ]
        assert page.locator(".message").get_attribute("data-code") == code
    page.evaluate("scenario.fails = null")
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("130 card faces, the").wait_for()
    assert page.locator(".message").count() == 0


def test_what_identifying_lacks_leaves_search_alone(opened: Opened, folder: Path) -> None:
    page = opened("identify", ready=error("no-encoder", "It can't identify"))
    assert "It can't identify" in message(page, "#identify-message")
    assert not page.get_by_role("button", name="Use the camera").is_visible()
    drop(page, folder / "one.jpg")
    assert "It can't identify" in message(page, "#answers")
    page.get_by_role("tab", name="Search").click()
    page.get_by_text("130 card faces, the").wait_for()
    assert not page.locator(".message").first.is_visible()
    page.evaluate("scenario.ready = 'yes'")
    page.get_by_role("tab", name="Identify").click()
    page.get_by_role("button", name="Try again").click()
    page.locator("#identify-message .message").wait_for(state="detached")
    assert page.evaluate("stub.closed") == 1


def test_a_page_for_searching_only_says_so_and_offers_no_more(opened: Opened, address: str) -> None:
    only = error("no-encoder", "This page was opened for searching only")
    page = opened("identify", at=f"{address}?encoder=none", ready=only)
    page.get_by_text("This page was opened for searching only.", exact=True).wait_for()
    assert page.locator(".message").count() == 0
    assert not page.get_by_role("button", name="Choose pictures").is_visible()
    assert not page.get_by_role("button", name="Use the camera").is_visible()


def test_a_search_among_neighbours_that_fails_is_told_in_the_dialog(opened: Opened) -> None:
    page = opened(nearestFails=error("damaged", "The vectors are damaged"))
    page.locator("#grid button").first.click()
    assert "The vectors are damaged" in message(page, "dialog")


def test_progress_is_shown_by_parts_and_search_does_not_wait_for_the_encoder(opened: Opened) -> None:
    page = opened(held=True, ready="held")
    until(page, "Boolean(globalThis.stub?.start)")
    page.evaluate("""() => {
      stub.progress({role: "records", loaded: 1.2e6, total: 3.4e6});
      stub.progress({role: "whitened", loaded: 5e6, total: 12e6});
      stub.progress({role: "hashes", loaded: 1e6, total: 2e6});
      stub.progress({role: "encoder", loaded: 0, total: 8e6});
      stub.progress({role: "runtime", loaded: 3e6, total: 0});
    }""")
    region = page.get_by_role("region", name="Loading")
    region.get_by_text("1.2 MB of 3.4 MB, 35 %").wait_for()
    region.get_by_text("6.0 MB of 14 MB, 43 %").wait_for()
    assert region.get_by_role("progressbar", name="Runtime").get_attribute("value") is None
    assert page.get_by_label("Name").is_disabled()
    page.evaluate("stub.start()")
    page.get_by_text("130 card faces, the").wait_for()
    assert page.locator("#progress-said").inner_text() == "Search is ready."
    assert region.is_visible()
    page.evaluate("stub.ready()")
    region.wait_for(state="hidden")
    assert page.locator("#progress-said").inner_text() == "Ready to identify."


def test_pictures_that_come_early_wait_for_the_encoder(opened: Opened, folder: Path) -> None:
    page = opened(ready="held", answers=[THREE])
    page.locator("#grid li").first.wait_for()
    drop(page, folder / "three.jpg")
    page.locator(".waiting").wait_for()
    page.evaluate("stub.ready()")
    page.locator(".found").nth(2).wait_for()


def start_camera(page: "Page") -> None:
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_text("Hold a card into the picture.").wait_for()


def film(opened: Opened, filming: "Browser", **more: Any) -> "Page":
    page = opened("identify", by=filming, context={"permissions": ["camera"], **more})
    start_camera(page)
    return page


def test_the_camera_freezes_on_a_sure_card_until_space_is_pressed(opened: Opened, filming: "Browser") -> None:
    page = film(opened, filming)
    page.evaluate("told => stub.frame(told)", answer(card(44, sure=False)))
    assert not page.locator("#frozen").is_visible()
    page.evaluate("told => stub.frame(told)", answer(card(3)))
    page.get_by_role("button", name="Go on").wait_for()
    page.get_by_text("Ashen Drake (sure).").wait_for()
    assert page.evaluate("document.activeElement.id") == "go-on"
    assert not page.evaluate("stub.watching")
    assert page.locator("#frozen").evaluate("canvas => canvas.width") == 480
    assert names(page, "#seen-list") == ["Ashen Drake"]
    page.keyboard.press("Space")
    until(page, "stub.watching")
    page.evaluate("told => stub.frame(told)", answer(card(3)))  # still there: no second sighting
    assert not page.locator("#frozen").is_visible()
    for told in (answer(), answer(), answer(), answer(card(3))):
        page.evaluate("told => stub.frame(told)", told)
    page.get_by_role("button", name="Go on").wait_for()
    assert page.locator("#seen-list .badge").inner_text() == "×2"


def test_the_camera_goes_on_and_collects_if_asked_to_and_tells_figures(opened: Opened, filming: "Browser") -> None:
    page = film(opened, filming)
    page.get_by_role("switch", name="Keep going").check()
    page.get_by_text("Figures").click()
    for told in (answer(card(3)), answer(card(3)), answer(card(44), card(77, 1))):
        page.evaluate("told => stub.frame(told)", told)
    assert sorted(names(page, "#seen-list")) == ["Ashen Drake", "Ember Elf", "Hollow Hydra"]
    assert page.evaluate("stub.watching")
    figures = page.locator("#figures dl").inner_text()
    for words in ("Frames a second", "Encoder\n30.0 ms", "Search\n1.0 ms"):
        assert words in figures
    page.get_by_role("button", name="Stop the camera").click()
    assert not page.evaluate("stub.watching || document.getElementById('video').srcObject")
    assert page.evaluate("document.activeElement.id") == "camera-start"


def test_a_frame_that_fails_ends_the_camera_and_says_why(opened: Opened, filming: "Browser") -> None:
    page = film(opened, filming)
    page.evaluate("told => stub.failFrame(told)", error("little-memory", "there is not enough memory"))
    assert "There is not enough memory" in message(page, "#camera-message")
    assert not page.evaluate("stub.watching || document.getElementById('video').srcObject")
    page.get_by_role("tab", name="Search").click()
    page.get_by_text("130 card faces, the").wait_for()


def test_leaving_the_view_stops_the_camera(opened: Opened, filming: "Browser") -> None:
    page = film(opened, filming)
    page.get_by_role("tab", name="Search").click()
    assert not page.evaluate("stub.watching || document.getElementById('video').srcObject")


TWO_CAMERAS = """() => {
  const { mediaDevices } = navigator;
  const open = mediaDevices.getUserMedia.bind(mediaDevices);
  const named = (label) => ({ kind: "videoinput", deviceId: label, label });
  mediaDevices.enumerateDevices = async () => [named("Front"), named("Back")];
  mediaDevices.getUserMedia = ({ video }) => {
    (globalThis.asked ??= []).push([video.deviceId?.exact, video.facingMode?.ideal]);
    return open({ video: true });
  };
}"""


def test_another_camera_can_be_chosen(opened: Opened, filming: "Browser") -> None:
    page = opened("identify", by=filming, context={"permissions": ["camera"]})
    page.evaluate(TWO_CAMERAS)
    start_camera(page)
    page.get_by_label("Camera", exact=True).select_option("Back")
    until(page, "stub.watching && asked.length === 2")
    assert page.evaluate("asked") == [[None, "environment"], ["Back", None]]


def test_a_camera_that_is_stopped_while_it_starts_leaves_nothing_behind(opened: Opened, filming: "Browser") -> None:
    page = opened("identify", by=filming, context={"permissions": ["camera"]})
    page.evaluate("""() => {
      const list = (resolve) => { globalThis.list = () => resolve([]); };
      navigator.mediaDevices.enumerateDevices = () => new Promise(list);
    }""")
    page.get_by_role("button", name="Use the camera").click()
    until(page, "Boolean(globalThis.list)")
    page.get_by_role("button", name="Stop the camera").click()
    page.evaluate("list()")
    assert page.locator("#identify-status").inner_text() == ""
    assert page.evaluate("document.activeElement.id") == "camera-start"


def test_a_camera_that_was_started_too_early_ends_where_the_encoder_fails(opened: Opened, filming: "Browser") -> None:
    page = opened("identify", by=filming, context={"permissions": ["camera"]}, ready="held")
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_text("Getting ready…").wait_for()
    page.evaluate("told => stub.fail(told)", error("network", "The encoder can't be fetched"))
    assert "The encoder can't be fetched" in message(page, "#identify-message")
    until(page, "!document.getElementById('video').srcObject")
    page.evaluate("scenario.ready = 'yes'")
    page.get_by_role("button", name="Try again").click()
    start_camera(page)
    assert page.locator(".message").count() == 0


REFUSALS = {
    "NotFoundError": "No camera was found",
    "NotAllowedError": "This page may not use the camera",
    "NotReadableError": "The camera does not start",
    "OverconstrainedError": "The chosen camera is not there any more",
}


def test_a_camera_that_does_not_start_says_why(opened: Opened) -> None:
    page = opened("identify")  # a headless browser has no camera, and nobody to ask
    for name, words in REFUSALS.items():
        page.evaluate(
            """name => {
              navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("so it is", name); };
            }""",
            name,
        )
        page.get_by_role("button", name="Use the camera").click()
        page.get_by_text(words).wait_for()
        assert f"{name}: so it is" in message(page, "#camera-message")
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_text("no access to cameras").wait_for()


def test_a_refused_permission_is_told(opened: Opened, filming: "Browser") -> None:
    page = opened("identify", by=filming)  # not granted
    page.get_by_role("button", name="Use the camera").click()
    assert "This page may not use the camera" in message(page, "#camera-message")
    assert "NotAllowedError" in message(page, "#camera-message")


def test_an_insecure_address_has_no_camera_and_says_so(opened: Opened, address: str) -> None:
    page = opened("identify")
    page.evaluate("Object.defineProperty(globalThis, 'isSecureContext', {value: false})")
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
    page.get_by_role("button", name="Use the camera").click()
    assert "The camera needs a secure address" in message(page, "#camera-message")


def test_light_and_dark_follow_the_system_unless_chosen(opened: Opened) -> None:
    page = opened(context={"color_scheme": "dark"})
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_label("Colours").select_option("light")
    light = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == light
    page.get_by_label("Colours").select_option("")
    assert page.evaluate(background) == dark


STATES: dict[str, dict[str, Any]] = {
    "search": {},
    "loading": {"ready": "held"},
    "nothing": {"fails": MISSING},
    "no encoder": {"ready": NO_ENCODER},
    "answers": {"answers": [THREE, answer(), error("bad-picture")]},
}


def show(page: "Page", state: str, folder: Path) -> None:
    """Bring a page into a state."""
    if state == "loading":
        page.locator("#grid li").first.wait_for()
        page.evaluate("stub.progress({role: 'encoder', loaded: 1e6, total: 8e6})")
        page.get_by_role("progressbar", name="Encoder").wait_for()
    elif state == "nothing":
        page.locator(".message").wait_for()
    elif state == "no encoder":
        page.get_by_role("tab", name="Identify").click()
        page.locator("#identify .message").wait_for()
    elif state == "answers":
        drop(page, *[folder / "three.jpg"] * 3)
        page.locator("#answers .message").wait_for()
    else:
        page.locator("#grid li").first.wait_for()


def wrong(page: "Page") -> list[str]:
    """What axe-core finds in a page's state, serious or worse, and what is too wide for it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = axe.Axe().run(page, options={"runOnly": tags}).response["violations"]
    faults = [
        f"{fault['id']} ({fault['impact']}): {[node['target'] for node in fault['nodes']]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
    width, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    return faults + [f"{width} pixels wide in {room}"] * (width > room)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_no_serious_fault_and_a_phone_shows_the_whole_width(
    opened: Opened, folder: Path, state: str, scheme: str
) -> None:
    context = {"color_scheme": scheme, "bypass_csp": True, "viewport": {"width": 360, "height": 720}}
    page = opened(context=context, **STATES[state])
    show(page, state, folder)
    assert wrong(page) == []
    if state == "search":
        page.locator("#grid button").first.click()
        page.locator(".near li").first.wait_for()
        assert wrong(page) == []


@pytest.mark.slow
def test_axe_finds_no_serious_fault_in_the_cameras_view(opened: Opened, filming: "Browser") -> None:
    page = film(opened, filming, bypass_csp=True, viewport={"width": 360, "height": 720})
    page.evaluate("told => stub.frame(told)", answer(card(3), card(77, 1)))
    page.get_by_role("button", name="Go on").wait_for()
    page.get_by_text("Figures").click()
    assert wrong(page) == []


TAKEN_OVER = "navigator.serviceWorker.ready.then(() => Boolean(navigator.serviceWorker.controller))"


def test_the_page_works_offline_after_a_visit(opened: Opened, problems: list[str]) -> None:
    page = opened(context={"service_workers": "allow"})
    page.get_by_text("130 card faces, the").wait_for()
    until(page, TAKEN_OVER)
    page.context.set_offline(True)
    answer = page.goto(page.url.partition("#")[0] + "?bundle=other/bundle.json")
    page.get_by_text("130 card faces, the").wait_for()
    assert answer is not None
    assert answer.from_service_worker
    assert page.evaluate("crossOriginIsolated")
    page.close()
    # Chromium tells of each request in vain: for cards' pictures, which are not kept, and the service worker's own
    assert [one for one in problems if "net::ERR_INTERNET_DISCONNECTED" not in one] == []
    problems.clear()


@pytest.mark.slow
def test_without_the_hosts_headers_the_page_is_loaded_once_more_for_threads(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    import serve_web

    for name in ("Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy"):
        monkeypatch.delitem(serve_web.HEADERS, name)
    page = opened(context={"service_workers": "allow"})
    page.get_by_text("130 card faces, the").wait_for()
    assert page.evaluate("crossOriginIsolated")
    assert page.evaluate("performance.getEntriesByType('navigation')[0].type") == "reload"


WORKER_SAYS = """new Promise((resolve) => {
  const worker = new Worker(new URL("recogniser/worker.js", document.baseURI), { type: "module" });
  worker.onmessage = ({ data }) => resolve(data);
})"""


def write_version(folder: Path, version: int) -> None:
    """The stylesheet, and a module of the worker, which tells it."""
    site = folder / "site"
    (site / "recogniser").mkdir(parents=True, exist_ok=True)
    (site / "style.css").write_text(f"body {{ color: rgb(1, 2, {version}) }}")
    (site / "recogniser" / "worker.js").write_text('import { version } from "./faces.js"; postMessage(version);')
    (site / "recogniser" / "faces.js").write_text(f"export const version = {version};")


@pytest.mark.slow
def test_where_the_network_stalls_the_page_and_its_worker_are_the_kept_ones(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from serve_web import Handler

    goes_on = threading.Event()
    goes_on.set()

    def stalling(self: Handler) -> None:
        goes_on.wait(10)  # whoever waits for it gets what is new
        SimpleHTTPRequestHandler.do_GET(self)

    monkeypatch.setattr(Handler, "do_GET", stalling, raising=False)
    with site(tmp_path) as url:
        write_version(tmp_path, 1)
        script = (WEB / "service-worker.js").read_text(encoding="utf-8")
        (tmp_path / "site" / "service-worker.js").write_text(script.replace("PATIENCE = 5000", "PATIENCE = 1000"))
        page = opened(at=url, context={"service_workers": "allow"}, ready="held")
        until(page, TAKEN_OVER)
        goes_on.clear()
        write_version(tmp_path, 2)
        page.reload()
        page.get_by_text("130 card faces, the").wait_for()
        assert page.evaluate(WORKER_SAYS) == 1
        goes_on.set()
        assert page.evaluate(WORKER_SAYS) == 1  # versions don't mix
        page.reload()
        assert page.evaluate(WORKER_SAYS) == 2


KEPT = """async (path) => {
  for (const name of await caches.keys()) {
    const found = await (await caches.open(name)).match(new URL(path, document.baseURI).href);
    if (found) return found.text();
  }
  return null;
}"""


@pytest.mark.slow
def test_a_new_version_shows_at_once_and_is_what_is_kept(opened: Opened, tmp_path: Path) -> None:
    with site(tmp_path) as url:
        write_version(tmp_path, 1)
        page = opened(at=url, context={"service_workers": "allow"})
        until(page, TAKEN_OVER)
        write_version(tmp_path, 2)
        page.reload()
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(1, 2, 2)"
        assert page.evaluate(WORKER_SAYS) == 2
        until(page, f"({KEPT})('style.css').then((text) => text.includes('rgb(1, 2, 2)'))")
        until(page, f"({KEPT})('recogniser/faces.js').then((text) => text.includes('2'))")


def name_runtime(vendor: Path, content: bytes) -> None:
    """Write a manifest by which good.js has such a content."""
    files = [{"path": "good.js", "bytes": len(content), "sha256": sha256(content).hexdigest()}]
    (vendor / "manifest.json").write_text(json.dumps({"packages": {}, "files": files}))


@pytest.mark.slow
def test_libraries_are_kept_if_they_are_what_the_manifest_names(opened: Opened, tmp_path: Path) -> None:
    vendor = tmp_path / "site" / "vendor"
    with site(tmp_path) as url:
        vendor.mkdir()
        (vendor / "good.js").write_text("1")
        name_runtime(vendor, b"1")
        page = opened(at=url, context={"service_workers": "allow"})
        until(page, f"({KEPT})('vendor/manifest.json')")
        assert page.evaluate(KEPT, "vendor/good.js") == "1"
        (vendor / "good.js").write_text("damaged")
        name_runtime(vendor, b"2")
        page.reload()
        page.get_by_text("130 card faces, the").wait_for()
        page.evaluate("() => fetch('vendor/good.js')")
        assert page.evaluate(KEPT, "vendor/good.js") == "1"
