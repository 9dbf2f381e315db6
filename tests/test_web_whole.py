"""The page and the recogniser together, over an exported index: cards in pictures and before a camera get names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from helpers.cards.image_cache import ImageCache
from tests import browser as browsers
from tests.browser import Served
from tests.conftest import ROOT, Built
from tests.web_site import write_y4m

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
PATIENCE = 90_000  # milliseconds, for machines that have other work
TABLE = (96, 88, 80)


def photo(cache: Path, *files: str, turned: float = 4, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Cards lie side by side on a table; every second one is upside down."""
    picture = Image.new("RGB", size, TABLE)
    for i, file in enumerate(files):
        card = Image.open(cache / file).convert("RGB").resize((290, 405), Image.Resampling.LANCZOS)
        lying = card.rotate(turned + 180 * (i % 2), Image.Resampling.BICUBIC, expand=True, fillcolor=TABLE)
        room = size[0] // len(files)
        picture.paste(lying, (i * room + (room - lying.width) // 2, (size[1] - lying.height) // 2))
    return picture


@pytest.fixture(scope="module")
def cards(recognised: Built) -> dict[str, str]:
    """The names that one card alone has, with its picture's file name."""
    records = recognised.records()
    names = [record["name"] for record in records]
    return {one["name"]: ImageCache.name_for(one["image_url"]) for one in records if names.count(one["name"]) == 1}


@pytest.fixture
def address(exported: Path, recognised: Built, served: Served) -> str:
    return served(exported, pictures=recognised.cache)


@pytest.fixture
def whole(browser: "Browser", address: str, problems: list[str]) -> "Iterator[Page]":
    """The page over the drawn cards' index."""
    with browsers.opened(browser, problems) as page:
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        yield page
    assert problems == []


def seen(page: "Page", *names: str) -> None:
    """Wait until these cards are listed as seen."""
    for name in names:
        page.locator("#seen-list .name").get_by_text(name, exact=True).wait_for()


def choose(page: "Page", picture: Path) -> None:
    page.get_by_role("tab", name="Identify").click()
    page.locator("#files").set_input_files(picture)


def test_names_are_found_before_the_encoder_has_come_and_cards_after(
    whole: "Page", cards: dict[str, str], recognised: Built, tmp_path: Path
) -> None:
    first, second = list(cards)[:2]
    photo(recognised.cache, cards[first], cards[second], size=(900, 600)).save(tmp_path / "two.jpg")
    whole.get_by_label("Name").fill(first)
    whole.get_by_text("1 card face", exact=True).wait_for()
    assert whole.get_by_role("region", name="Loading").is_visible()
    choose(whole, tmp_path / "two.jpg")
    seen(whole, first, second)
    assert whole.locator(".outlines g.sure").count() == 2
    assert sorted(whole.locator(".found h4 .name").all_inner_texts()) == sorted([first, second])
    assert "180°" in whole.locator(".found", has_text=second).inner_text()
    assert whole.locator("main .message").all_inner_texts() == []


def test_cards_are_identified_offline_after_a_visit(
    whole: "Page", address: str, cards: dict[str, str], recognised: Built, problems: list[str], tmp_path: Path
) -> None:
    name = list(cards)[2]
    photo(recognised.cache, cards[name]).save(tmp_path / "one.jpg")
    whole.get_by_role("region", name="Loading").wait_for(state="hidden")
    for _ in range(600):
        if whole.evaluate("caches.match(new URL('vendor/manifest.json', document.baseURI)).then(Boolean)"):
            break
        whole.wait_for_timeout(100)
    whole.context.set_offline(True)
    whole.goto(address + "?offline")
    choose(whole, tmp_path / "one.jpg")
    seen(whole, name)
    whole.close()
    # Of each request in vain Chromium tells: for cards' pictures, which are not kept, and the service worker's own
    assert [one for one in problems if "net::ERR_INTERNET_DISCONNECTED" not in one] == []
    problems.clear()


@contextmanager
def filming(browser: "Browser", film: Path, problems: list[str]) -> "Iterator[Page]":
    """A page before whose camera a film is played."""
    flags = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}"]
    program, more = browsers.chromium(), ["--no-sandbox", *flags]
    with (
        browser.browser_type.launch(executable_path=program, args=more) as filming,
        browsers.opened(filming, problems, permissions=["camera"]) as page,
    ):
        page.set_default_timeout(PATIENCE)
        yield page


def test_the_camera_collects_the_cards_that_are_held_before_it(
    browser: "Browser", address: str, cards: dict[str, str], recognised: Built, problems: list[str], tmp_path: Path
) -> None:
    names = list(cards)[:3]
    write_y4m(tmp_path / "film.y4m", [photo(recognised.cache, cards[name]) for name in names for _ in range(8)], rate=2)
    with filming(browser, tmp_path / "film.y4m", problems) as page:
        page.goto(f"{address}#identify")
        page.get_by_role("button", name="Use the camera").click()
        page.get_by_role("button", name="Go on").wait_for()
        assert page.locator("#seen-list .name").count() == 1
        page.get_by_role("switch", name="Keep going").check()
        seen(page, *names)
        assert sorted(page.locator("#seen-list .name").all_inner_texts()) == sorted(names)
    assert problems == []


def test_the_page_in_the_docs_names_the_card_before_the_camera(
    browser: "Browser",
    exported: Path,
    cards: dict[str, str],
    recognised: Built,
    served: Served,
    problems: list[str],
    tmp_path: Path,
) -> None:
    example = (ROOT / "docs" / "browser.md").read_text().partition("```html\n")[2].partition("```")[0]
    (tmp_path / "example.html").write_text(example.replace("<title>", "<link rel=icon href=data:,><title>"))
    name = list(cards)[1]
    write_y4m(tmp_path / "film.y4m", [photo(recognised.cache, cards[name])] * 8, rate=2)
    with filming(browser, tmp_path / "film.y4m", problems) as page:
        page.goto(served(exported, tmp_path) + "example.html")
        page.locator("li", has_text=name).wait_for()
        assert page.locator("li").count() == 1
    assert problems == []
