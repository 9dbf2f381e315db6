"""The page of an evaluation: whole, self-contained, harmless whatever cards are called; and what a browser says."""

import json
import re
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from helpers.atomic_io import atomic_write_json
from helpers.evaluate.findings import Findings, Miss, read_findings
from helpers.evaluate.page import MAX_PICTURES, page
from tests.browser import opened
from tests.made_findings import CONDITIONS, EACH, HOSTILE, ROWS, made_findings
from tests.pictures import encoded, write
from tests.test_formats import check
from tests.test_page import Seen

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PICTURES = """async () => {
  const images = [...document.images];
  for (const image of images) image.loading = "eager";
  const broken = await Promise.all(images.map((image) => image.decode().then(() => 0, () => 1)));
  return [images.length, broken.reduce((a, b) => a + b, 0)];
}"""
SIDES = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
BACKGROUND = "() => getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    photo = write(tmp_path_factory.mktemp("photos") / "photo.jpg", encoded())
    return made_findings(str(photo))


@pytest.fixture(scope="module")
def html(found: Findings) -> str:
    return page(found, asked=lambda miss: picture(miss.row), card=picture)


def picture(row: int) -> Image.Image | None:
    return Image.new("RGB", (126, 176), (40 * row, 90, 90)) if row != 2 else None


def test_it_is_one_file_that_fetches_nothing(html: str) -> None:
    seen = Seen(html)
    addresses = [value for tag in ("img", "image", "a", "link", "use") for value in seen.all(tag, "src")]
    addresses += [value for tag in ("image", "a", "link", "use") for value in seen.all(tag, "href")]
    addresses += [value for tag in ("image", "use") for value in seen.all(tag, "xlink:href")]
    assert not [
        address for address in addresses if address and not address.startswith(("data:image/jpeg;base64,", "#"))
    ]
    assert "default-src 'none'" in seen.all("meta", "content")[-1]
    assert "script" not in {tag for tag, _ in seen.elements}
    without_names = re.sub(r'xmlns(:\w+)?="[^"]+"', "", html)
    assert "http" not in without_names.replace("http-equiv", "")
    assert "url(" not in re.sub(r"url\(#", "", html)


def test_every_plot_has_a_text_in_its_place_and_names_of_its_own(html: str) -> None:
    seen = Seen(html)
    plots = [attributes for tag, attributes in seen.elements if tag == "svg"]
    assert (
        len(plots) == len({one.kind for one in CONDITIONS}) + 4 + 1
    )  # damage; sure, size, reading, search; a photograph
    assert all(len(attributes["aria-label"] or "") > 20 for attributes in plots)
    names = re.findall(r'\bid="([^"]+)"', html)
    assert len(names) == len(set(names)) > 0
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', html)) <= set(names)
    assert "#0102" not in html  # a stand-in for a colour of the page
    assert "currentColor" in html


def test_every_figure_says_how_many_of_how_many(html: str) -> None:
    figures = re.findall(r"<figcaption>(.*?)</figcaption>", html.partition("The worst misses")[0])
    assert len(figures) >= 10
    assert sum(f"among {ROWS:,} faces" in figure.lower() for figure in figures) >= 8
    text = Seen(html).text
    assert f"Each point is {EACH} queries in 5 rounds" in text
    assert "192/200 96.0 % [92.3, 98.0]" in text  # a share with counts and interval
    assert "117,000" in text
    assert "extrapolation that nothing here confirms" in text
    assert "3/4 75.0 %" in text  # photographs


def test_names_are_text(html: str) -> None:
    assert HOSTILE not in html
    assert HOSTILE in unescape(html)
    assert "photo.jpg, whole photographs, turned by 0: Island, lost: recognition; sure, but not on it: " in html


def test_pictures_that_are_gone_are_said_to_be(found: Findings) -> None:
    gone = Findings(conditions=found.conditions, photographs=made_findings("gone.jpg").photographs, misses=found.misses)
    text = page(gone, asked=lambda _: None, card=lambda _: None)
    assert text.count("no picture") == 3 * len(found.misses)
    assert "The photograph is no longer there" in text


def test_what_it_shows_fits_the_schema_and_comes_back_as_it_was(found: Findings, tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "evaluation.json", found)
    check("evaluation.json", json.loads((tmp_path / "evaluation.json").read_text()))
    assert read_findings(tmp_path / "evaluation.json") == found


def test_only_what_was_measured_is_shown(found: Findings) -> None:
    text = page(Findings(conditions=found.conditions), asked=lambda _: None, card=picture)
    assert "<h2>" not in text
    assert "Left out: " in text
    alone = page(
        Findings(conditions=found.conditions, photographs=found.photographs), asked=lambda _: None, card=picture
    )
    assert re.findall("<h2>(.*?)</h2>", alone) == ["Photographs"]


def test_however_many_pictures_there_are_the_page_stays_small(found: Findings) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (680, 488, 3), dtype=np.uint8))
    misses = tuple(replace(found.misses[0], row=row) for row in range(60))

    def same(_: "Miss | int") -> Image.Image:
        return noise

    text = page(Findings(conditions=found.conditions, misses=misses), asked=same, card=same)
    assert 1_000_000 < len(text) < MAX_PICTURES + 100_000 < 2_100_000
    assert "of the 60 misses" in text


@pytest.mark.parametrize(
    ("width", "scheme", "background"), [(1200, "light", "rgb(255, 255, 255)"), (400, "dark", "rgb(23, 25, 28)")]
)
def test_a_browser_opens_it_without_complaint(
    bare_browser: "Browser", problems: list[str], html: str, tmp_path: Path, width: int, scheme: str, background: str
) -> None:
    file, asked, said = write(tmp_path / "page.html", html.encode()), list[str](), list[str]()
    with opened(bare_browser, problems, viewport={"width": width, "height": 900}, color_scheme=scheme) as tab:
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: said.append(message.text))
        tab.goto(file.as_uri())
        whole, shown = tab.evaluate(SIDES)
        assert whole == shown  # nothing sticks out
        assert tab.evaluate(BACKGROUND) == background  # as light or dark as the system
        assert tab.evaluate(PICTURES) == [html.count("<img "), 0]
    assert {url for url in asked if not url.startswith("data:")} == {file.as_uri()}
    assert (said, problems) == ([], [])
