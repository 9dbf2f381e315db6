"""The stand-in answers as FACTS say Scryfall does."""

import gzip
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from _faults import Fault, FaultPlan, fault_shares
from PIL import Image

from helpers.cards.faces import IMAGE_KEYS
from tests.conftest import ROOT, run_script, serving


@pytest.fixture(scope="module")
def address(drawn: Path) -> Iterator[str]:
    with serving(drawn / "cards.jsonl") as address:
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


def test_normal_is_the_file_as_it_is_where_that_is_small_enough(many: Path) -> None:
    with serving(many) as address:
        offers = requests.get(f"{address}/bulk-data", timeout=5).json()["data"]
        content = requests.get(cards(offers[0])[0]["image_uris"]["normal"], timeout=5).content
    assert content == (many.parent / "000.jpg").read_bytes()


KIND_TABLE: list[dict[str, Any]] = [
    {"id": "en-1", "lang": "en", "oracle_id": "o1", "illustration_id": "i1", "picture": None},
    {"id": "de-1", "lang": "de", "oracle_id": "o1", "illustration_id": "i1", "picture": None},
    {"id": "en-2", "lang": "en", "oracle_id": "o1", "illustration_id": "i2", "picture": None},
    {"id": "en-3", "lang": "en", "oracle_id": "o3", "illustration_id": "i1", "picture": None},
    {"id": "none", "lang": "en", "oracle_id": "o4", "image_status": "missing", "card_faces": None},
]


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("all_cards", ["en-1", "de-1", "en-2", "en-3", "none"]),
        ("default_cards", ["en-1", "en-2", "en-3", "none"]),
        ("oracle_cards", ["en-1", "en-3", "none"]),
        ("unique_artwork", ["en-1", "en-2", "none"]),
    ],
)
def test_each_list_has_the_cards_of_its_kind(tmp_path: Path, kind: str, wanted: list[str]) -> None:
    table = tmp_path / "cards.jsonl"
    table.write_text("".join(json.dumps(card | {"name": "A"}) + "\n" for card in KIND_TABLE))
    with serving(table) as address:
        offers = requests.get(f"{address}/bulk-data", timeout=5).json()["data"]
        (offer,) = (offer for offer in offers if offer["type"] == kind)
        listed = cards(offer)
        lost = requests.get(listed[0]["image_uris"]["normal"], timeout=5)
    assert [card["id"] for card in listed] == wanted
    assert "image_uris" not in listed[-1]
    assert not any("picture" in card for card in listed)
    assert lost.status_code == 404  # a picture of null


FACE = '{"name": "A", "picture": null}'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "line 2"),
        ("[1]", "line 2"),
        ('{"id": "id-1"}', "has no name"),
        ('{"id": "id-1", "name": "A", "card_faces": ["x"]}', "not a list of objects"),
        ('{"id": "id-1", "name": "A", "picture": 7}', "picture of card id-1"),
        ('{"id": "id-1", "name": "A", "picture": "a\\u0000"}', "picture of card id-1"),
        ('{"id": "id-1", "name": "A", "oracle_id": []}', "oracle_id of card id-1"),
        ('{"id": "id-1", "name": "\\ud800"}', "line 2"),
        ('{"id": "id-0", "name": "again"}', "is listed twice"),
        ('{"id": "日本é", "name": "A"}', "can't be part of a URL"),
        ("[" * 100_000, "line 2"),
        ('{"name": "no id"}', "can't be part of a URL"),
        ('{"id": "id-1", "name": "A", "picture": "nothing.jpg"}', "No such file"),
        (
            '{"id": "id-1", "name": "A", "card_faces": [' + '{"name": "A", "picture": null}, ' * 2 + FACE + "]}",
            "3 sides",
        ),
    ],
)
def test_a_list_of_objects_that_can_not_be_used_is_named(tmp_path: Path, line: str, words: str) -> None:
    table = tmp_path / "cards.jsonl"
    table.write_text('{"id": "id-0", "name": "A", "card_faces": null}\n' + line + "\n")
    done = run_script("scripts/standin_scryfall.py", "--table", table)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


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
    assert "can't be part of a URL" in refused(tmp_path, HEADER + "a.jpg,A,s,1,i/1\n")
    assert "3 sides" in refused(tmp_path, HEADER + "a.jpg,A,s,1,id-1\n" * 3)
    assert "cards.csv, line 4: it names no file" in refused(tmp_path, HEADER + "\n,,\n,A,s,1,\n")


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
        assert (other["name"], other["collector_number"]) == ("C", "")


# What a client sees of each fault, and what the log says: status, fault.
SEEN = {
    "429": (429, 429),
    "429-bare": (429, 429),
    "503": (503, 503),
    "reset": (None, 0),
    "truncated": (None, 200),
    "html": (200, 200),
    "soon": (302, 302),
    "slow": (200, 200),
    "404": (404, 404),
}


def get(url: str) -> requests.Response | None:
    try:
        return requests.get(url, timeout=5, allow_redirects=False)
    except requests.RequestException:
        return None


@pytest.mark.parametrize("kind", SEEN)
@pytest.mark.parametrize("where", ["", "list:"])
def test_it_misbehaves_as_it_is_told_and_logs_it(drawn: Path, tmp_path: Path, kind: str, where: str) -> None:
    log = tmp_path / "log"
    with serving(drawn / "cards.jsonl", "--faults", where + kind, "--log", log, "--retry-after", 7) as address:
        first = get(f"{address}/bulk-data")
        if where:
            url = f"{address}/bulk-data"
        else:
            assert first is not None
            offers = first.json()["data"]
            url = cards(offers[0])[0]["image_uris"]["normal"]
            first = get(url)
        second = get(url)
    seen, status = SEEN[kind]
    assert (first.status_code if first is not None else None) == seen
    if kind.startswith("429"):
        assert first is not None
        assert first.headers.get("Retry-After") == (None if "bare" in kind else "7")
    if kind == "html":
        assert first is not None
        assert first.headers["Content-Type"] == "text/html"
    if kind == "soon":
        assert first is not None
        assert first.headers["Location"] == "https://errors.scryfall.com/soon.jpg"
    assert second is not None
    assert second.status_code == (seen if kind in ("soon", "404") else 200)  # these two stay, the others pass
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    asked = [line for line in lines if url.endswith(line["path"])]
    assert (asked[0]["status"], asked[0]["fault"]) == (status, kind)
    assert asked[0]["method"] == "GET"
    assert asked[0]["user_agent"].startswith("python-requests")
    assert [line["fault"] for line in lines if line not in asked] == [None] * (len(lines) - len(asked))


@pytest.mark.parametrize("times", [0, 2])
def test_an_address_fails_as_often_as_it_is_told(drawn: Path, times: int) -> None:
    with serving(drawn / "cards.jsonl", "--faults", "list:503", "--fault-times", times) as address:
        codes = [requests.get(f"{address}/bulk-data", timeout=5).status_code for _ in range(4)]
    assert codes == ([503] * 4 if times == 0 else [503, 503, 200, 200])


def test_a_share_of_the_addresses_fails_and_the_seed_chooses_which() -> None:
    paths = [f"/normal/front/a/b/{i}.jpg" for i in range(4000)]

    def faults(seed: int) -> list[Fault | None]:
        shares = fault_shares("--faults", "503=10,404=2.5")
        plan = FaultPlan(shares, seed=seed)
        return [plan.next_fault(path, of_list=False) for path in paths]

    assert faults(1) == faults(1) != faults(2)
    assert 320 < faults(1).count(Fault.UNAVAILABLE) < 480
    assert 60 < faults(1).count(Fault.NOT_FOUND) < 140
    assert FaultPlan(fault_shares("--faults", "503=100")).next_fault("/bulk-data", of_list=True) is None


def test_a_client_that_goes_away_is_no_reason_for_a_traceback(drawn: Path) -> None:
    words = [sys.executable, str(ROOT / "scripts/standin_scryfall.py"), "--table", str(drawn / "cards.jsonl")]
    with subprocess.Popen(
        [*words, "--faults", "list:slow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /bulk-data HTTP/1.1\r\nUser-Agent: x\r\n\r\n")
            client.recv(1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        requests.get(f"http://127.0.0.1:{port}/bulk-data", timeout=9)  # it serves others
        server.terminate()
        _, stderr = server.communicate(timeout=9)
    assert server.returncode == 143
    assert "Traceback" not in stderr


def test_a_picture_that_can_not_be_read_is_the_server_s_fault(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    (tmp_path / "cards.csv").write_text(HEADER + "a.jpg,A,s,1,id-1\n")
    with serving(tmp_path / "cards.csv") as address:
        offers = requests.get(f"{address}/bulk-data", timeout=5).json()["data"]
        (listed,) = cards(offers[0])
        assert requests.get(listed["image_uris"]["png"], timeout=5).status_code == 500


def test_a_fifo_in_the_place_of_a_picture_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert "not a regular file" in refused(tmp_path, HEADER + "a.jpg,A,s,1,id-1\n")
