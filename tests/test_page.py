"""The page that shows answers: whole, self-contained, and harmless whatever cards and files are called."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec.structs import replace

from helpers.cards.faces import CardFace
from helpers.cards.image_cache import ImageCache
from helpers.errors import PipelineError
from helpers.recognise.page import page_at
from helpers.recognise.query import Answer, Card, Match
from helpers.recognise.showing import Asked
from tests.pictures import encoded, write

URL = "https://cards.example/a.jpg"
FACE = CardFace(
    *("Island", "id", "id", None, None, "lea", "288", None, None, "en", []),
    *(URL, "https://cards.example/large.jpg", "https://scryfall.com/card/lea/288", "Island", None),
)
QUAD = ((10.0, 10.0), (60.0, 10.0), (60.0, 80.0), (10.0, 80.0))
HOSTILE = "<script>alert(1)</script>\"'&\x00"


class Seen(HTMLParser):
    """What a page has: its elements with their attributes, which must be closed in order, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, attribute: str) -> list[str]:
        return [attributes.get(attribute) or "" for name, attributes in self.elements if name == tag]


def seen(folder: Path, *cards: Card, image: str = "", remote: bool = False) -> Seen:
    picture = image or write(folder / "asked.jpg", encoded())
    with page_at(folder / "page.html", ImageCache(folder), remote=remote) as add:
        add(Asked.picture(str(picture)), Answer(str(picture), cards))
    return Seen((folder / "page.html").read_text(encoding="utf-8"))


def card(face: CardFace = FACE, *, sure: bool = True, quad: tuple[tuple[float, float], ...] | None = QUAD) -> Card:
    match = Match(1, 0.5, face)
    return Card(quad, 0, (match,), ((match,),), 0.3, 0.4, sure)


def test_each_card_is_outlined_numbered_and_beside_its_matches(tmp_path: Path) -> None:
    write(ImageCache(tmp_path).path_for(URL), encoded(seed=1))
    page = seen(tmp_path, card(), card(sure=False))
    assert page.all("polygon", "points") == ["10.0,10.0 60.0,10.0 60.0,80.0 10.0,80.0"] * 2
    assert page.all("g", "class") == ["sure", "unsure"]
    assert len(page.all("image", "href")) == 1
    assert len(page.all("img", "src")) == 4  # each card and its match
    assert page.all("a", "href") == ["https://scryfall.com/card/lea/288"] * 2
    assert "Island" in page.text
    assert "0.5000" in page.text
    assert "LEA 288" in page.text


def test_the_whole_picture_has_no_outline(tmp_path: Path) -> None:
    page = seen(tmp_path, card(quad=None))
    assert not page.all("polygon", "points")
    assert "the whole picture" in page.text


def test_everything_is_in_it(tmp_path: Path) -> None:
    write(ImageCache(tmp_path).path_for(URL), encoded(seed=1))
    page = seen(tmp_path, card())
    sources = page.all("img", "src") + page.all("image", "href")
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not {name for name, _ in page.elements} & {"script", "link", "iframe"}
    assert page.all("meta", "content")[-1].startswith("default-src 'none'; img-src data:;")


@pytest.mark.parametrize("broken", [True, False])
def test_a_picture_that_the_cache_lacks_is_a_placeholder_or_a_link(tmp_path: Path, broken: bool) -> None:
    if broken:
        write(ImageCache(tmp_path).path_for(URL), b"<html>")
    assert len(seen(tmp_path, card()).all("img", "src")) == 1
    assert "placeholder" in seen(tmp_path, card()).all("div", "class")
    assert seen(tmp_path, card(), remote=True).all("img", "src")[1] == FACE.card_url


def test_hostile_names_and_addresses_do_nothing(tmp_path: Path) -> None:
    script = "javascript:alert(1)"
    hostile = replace(FACE, name=HOSTILE, set=HOSTILE, collector_number=HOSTILE, scryfall_uri=script, card_url=script)
    page = seen(tmp_path, card(hostile), image=f"{HOSTILE}.jpg", remote=True)
    assert "script" not in {name for name, _ in page.elements}
    assert not page.all("a", "href")
    assert not page.all("img", "src")
    assert "<script>alert(1)</script>\"'&" in page.text
    assert "\x00" not in page.text


def test_an_answer_without_cards_and_one_with_an_error_say_so(tmp_path: Path) -> None:
    assert "no card" in seen(tmp_path).text
    with page_at(tmp_path / "page.html", ImageCache(tmp_path), remote=False) as add:
        add(Asked.picture("gone.jpg"), Answer("gone.jpg", error="no such file"))
    assert "no such file" in Seen((tmp_path / "page.html").read_text()).text


def test_pictures_that_voted_are_shown_and_those_that_did_not_named(tmp_path: Path) -> None:
    frames = [str(write(tmp_path / f"{i}.jpg", encoded(seed=i))) for i in range(2)]
    left_out = (Answer("gone.jpg", error="no such file"),)
    with page_at(tmp_path / "page.html", ImageCache(tmp_path), remote=False) as add:
        add(Asked.vote([*frames, "gone.jpg"]), Answer("", (card(quad=None),), left_out=left_out))
    page = Seen((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(page.all("img", "src")) == 2
    assert "gone.jpg: no such file" in page.text
    assert "the whole picture" not in page.text


def test_words_have_matches_alone(tmp_path: Path) -> None:
    with page_at(tmp_path / "page.html", ImageCache(tmp_path), remote=False) as add:
        add(Asked.words({"an island": 1.0}), Answer("", (card(quad=None),)))
    page = Seen((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "an island" in page.text
    assert "LEA 288" in page.text
    assert "sure" not in page.all("h3", "class")


def test_an_interrupted_page_leaves_the_earlier_one(tmp_path: Path) -> None:
    seen(tmp_path, card())
    before = (tmp_path / "page.html").read_bytes()
    with pytest.raises(KeyboardInterrupt), page_at(tmp_path / "page.html", ImageCache(tmp_path), remote=False):
        raise KeyboardInterrupt
    assert (tmp_path / "page.html").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_a_reader_of_stdout_that_leaves_is_no_error_of_the_disk(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    with pytest.raises(BrokenPipeError), page_at(tmp_path / "page.html", cache, remote=False):
        raise BrokenPipeError
    assert not list(tmp_path.iterdir())


def test_a_page_that_can_not_be_written_is_said_at_once(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    with pytest.raises(PipelineError, match="the --html file can't be written"), page_at(tmp_path, cache, remote=False):
        raise AssertionError
