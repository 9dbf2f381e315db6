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
from tests.conftest import run_script, serving


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


def refused(tmp_path: Path, table: str, *arguments: str) -> str:
    (tmp_path / "cards.csv").write_text(table)
    done = run_script("scripts/standin_scryfall.py", "--table", tmp_path / "cards.csv", *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


HEADER = "file,name,set,collector_number,scryfall_id\n"


def test_a_table_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert "has no column collector_number, scryfall_id" in refused(tmp_path, "file,name,set\na.jpg,A,s\n")
    assert "No such file" in refused(tmp_path, HEADER + "nothing.jpg,A,s,1,id-1\n")
    assert "can't be part of an address" in refused(tmp_path, HEADER + "a.jpg,A,s,1,i/1\n")
    assert "3 sides" in refused(tmp_path, HEADER + "a.jpg,A,s,1,id-1\n" * 3)
    assert "Is a directory" in refused(tmp_path, HEADER + "\n\n,,\n")


def test_a_port_that_is_taken_is_named(tmp_path: Path, address: str) -> None:
    assert "can't start" in refused(tmp_path, HEADER, "--port", address.rpartition(":")[2])


def test_sides_need_not_stand_together_and_ids_may_be_left_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Image.new("RGB", (488, 680), name.replace("a", "red").replace("b", "lime").replace("c", "blue")).save(
            tmp_path / f"{name}.jpg"
        )
    (tmp_path / "cards.csv").write_text(HEADER + "a.jpg,A,s,1,id-1\nc.jpg,C,s,,\nb.jpg,B,s,1,id-1\n")
    with serving(tmp_path / "cards.csv") as address:
        offers = requests.get(f"{address}/bulk-data", timeout=5).json()["data"]
        two_sided, other = cards(offers[0])
        for face, name in zip(two_sided["card_faces"], "ab", strict=True):
            content = requests.get(face["image_uris"]["normal"], timeout=5).content
            assert content == (tmp_path / f"{name}.jpg").read_bytes()
        assert (other["name"], other["collector_number"]) == ("C", "2")
