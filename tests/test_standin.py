"""The stand-in answers as FACTS say Scryfall does."""

import gzip
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from helpers.records import IMAGE_KEYS
from tests.conftest import serving


@pytest.fixture(scope="module")
def address(drawn: Path) -> Iterator[str]:
    with serving(drawn / "cards.csv") as address:
        yield address


@pytest.fixture(scope="module")
def offer(address: str) -> dict[str, Any]:
    offers = requests.get(f"{address}/bulk-data", timeout=5).json()["data"]
    return dict(next(offer for offer in offers if offer["type"] == "unique_artwork"))


def cards(offer: dict[str, Any]) -> list[dict[str, Any]]:
    packed = requests.get(offer["jsonl_download_uri"], timeout=5).content
    return [json.loads(line) for line in gzip.decompress(packed).splitlines()]


def test_lists_are_offered_in_the_form_of_2026(offer: dict[str, Any]) -> None:
    assert sorted(offer) == sorted(
        ["object", "id", "type", "updated_at", "uri", "name", "description", "jsonl_download_uri", "compressed_size"]
    )
    assert offer["jsonl_download_uri"].endswith(".jsonl.gz")


def test_the_list_is_a_gzip_file_that_can_be_resumed(offer: dict[str, Any]) -> None:
    whole = requests.get(offer["jsonl_download_uri"], timeout=5)
    assert whole.headers["Content-Type"] == "application/gzip"
    assert "Content-Encoding" not in whole.headers
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert len(whole.content) == offer["compressed_size"]
    etag = whole.headers["ETag"]
    wanted = {"Range": "bytes=100-", "If-Range": etag}
    rest = requests.get(offer["jsonl_download_uri"], headers=wanted, timeout=5)
    assert (rest.status_code, rest.content) == (206, whole.content[100:])
    other = requests.get(offer["jsonl_download_uri"], headers=wanted | {"If-Range": '"another"'}, timeout=5)
    assert (other.status_code, other.content) == (200, whole.content)


def test_a_description_is_not_sent_twice(address: str) -> None:
    url = f"{address}/bulk-data/unique-artwork"
    first = requests.get(url, timeout=5)
    assert first.headers["ETag"].startswith("W/")
    assert requests.get(url, headers={"If-None-Match": first.headers["ETag"]}, timeout=5).status_code == 304
    assert requests.get(url, params={"format": "file"}, allow_redirects=False, timeout=5).status_code == 302


def test_a_request_without_a_user_agent_is_refused(address: str) -> None:
    assert requests.get(f"{address}/bulk-data", headers={"User-Agent": ""}, timeout=5).status_code == 400


@pytest.mark.parametrize("key", IMAGE_KEYS)
def test_every_key_is_a_picture_of_its_size_and_format(offer: dict[str, Any], key: str) -> None:
    answer = requests.get(cards(offer)[0]["image_uris"][key], timeout=5)
    image = Image.open(BytesIO(answer.content))
    form = "PNG" if key == "png" else "WEBP" if key in ("thumb", "grid", "display", "crop", "art") else "JPEG"
    assert image.format == form
    assert answer.headers["Content-Type"] == f"image/{form.lower()}"
    widths = {"small": 146, "thumb": 146, "normal": 488, "grid": 488, "large": 672, "display": 672, "png": 745}
    assert image.width == widths.get(key, 480 if "crop" in key and "art" not in key else 626)
    if key == "png":
        assert image.getpixel((0, 0))[3] == 0  # type: ignore[index]


def test_normal_is_the_file_as_it_is(offer: dict[str, Any], drawn: Path) -> None:
    content = requests.get(cards(offer)[0]["image_uris"]["normal"], timeout=5).content
    assert content == (drawn / "001a.jpg").read_bytes()


def test_two_sided_cards_have_a_picture_a_side(offer: dict[str, Any]) -> None:
    (two_sided,) = (card for card in cards(offer) if card["layout"] == "transform")
    assert "image_uris" not in two_sided
    front, back = (requests.get(face["image_uris"]["normal"], timeout=5) for face in two_sided["card_faces"])
    assert front.status_code == back.status_code == 200
    assert front.content != back.content


@pytest.mark.parametrize("path", ["/normal/front/a/b/nobody.jpg", "/../../etc/passwd", "/bulk-data/none", "/x"])
def test_what_is_not_there_is_404(address: str, path: str) -> None:
    assert requests.get(address + path, timeout=5).status_code == 404
