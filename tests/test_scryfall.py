import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.cards import list_text
from helpers.cards.bulk_list import FRESH_FOR, ensure_card_list
from helpers.cards.card_list import FaceTally, iter_faces, logged_faces
from helpers.cards.faces import CardFace, Filters, Selection
from helpers.errors import PipelineError
from helpers.session import DownloadSession, Http
from tests.conftest import needs_proc, serving
from tests.faces import REQUIRED_FIELDS
from tests.faulty_server import FaultyServer, Reply, faulty_server

NOBODY = "http://127.0.0.1:9"  # nobody listens there
Cards = list[dict[str, Any]]


def uris(name: str, *keys: str) -> dict[str, str]:
    return {key: f"https://cards.example/{key}/{name}.jpg?1" for key in keys or ("normal", "large")}


def card(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"id-{name}", "name": name, "set": "tst", "collector_number": "1★", "layout": "normal"} | fields


def as_lines(cards: Cards) -> bytes:
    return b"".join(json.dumps(c, ensure_ascii=False).encode() + b"\n" for c in cards)


def as_array(cards: Cards) -> bytes:
    return b"[\n" + b",\n".join(json.dumps(c, ensure_ascii=False).encode() for c in cards) + b"\n]\n"


FORMS: dict[str, Callable[[Cards], bytes]] = {
    "jsonl": as_lines,
    "jsonl.gz": lambda cards: gzip.compress(as_lines(cards)),
    "json": as_array,
    "json.gz": lambda cards: gzip.compress(as_array(cards)),
    "gzipped twice": lambda cards: gzip.compress(gzip.compress(as_lines(cards))),
    "array on one line": lambda cards: json.dumps(cards).encode(),
    "array on one line, no blanks": lambda cards: json.dumps(cards, separators=(",", ":")).encode() + b"\r\n",
    "array indented": lambda cards: json.dumps(cards, indent=2).encode(),
    "objects indented": lambda cards: b"\n".join(json.dumps(c, indent=4).encode() for c in cards),
    "two arrays": lambda cards: as_array(cards[:3]) + json.dumps(cards[3:]).encode(),
    "two in a line": lambda cards: as_lines(cards).replace(b"\n", b",", 1),
    "Windows": lambda cards: b"\xef\xbb\xbf" + as_lines(cards).replace(b"\n", b"\r\n"),
}


def read(
    folder: Path, cards: Cards, form: str = "jsonl.gz", key: str = "normal", limit: int | None = None
) -> tuple[list[CardFace], FaceTally]:
    path = folder / f"list.{form}"
    path.write_bytes(FORMS[form](cards))
    tally = FaceTally()
    return list(iter_faces(path, Selection(image_key=key, limit=limit), tally)), tally


AS_SCRYFALL = ("set_name", "rarity", "released_at", "promo", "variation", "border_color")
LISTS_AS_SCRYFALL = ("promo_types", "finishes", "frame_effects")


def test_what_people_filter_by_is_as_scryfall_has_it_a_side_s_own_where_it_has_one(real: Path, tmp_path: Path) -> None:
    objects = {card["id"]: card for card in json.loads((real / "scryfall_cards.json").read_text())}
    for face in read(tmp_path, list(objects.values()))[0]:
        whole, number = objects[face.scryfall_id], face.face_id.partition(":face:")[2]
        side = whole["card_faces"][int(number)] if number else whole
        record = json.loads(face.to_json())
        assert {name: record[name] for name in AS_SCRYFALL} == {name: whole.get(name) for name in AS_SCRYFALL}
        assert [record[name] for name in LISTS_AS_SCRYFALL] == [whole.get(name, []) for name in LISTS_AS_SCRYFALL]
        assert record["type_line"] == side["type_line"]
        if "oracle_text" in side:
            assert record["oracle_text"] == side["oracle_text"]
        else:  # the sides share the picture, and only they have text
            assert all(part["oracle_text"] in record["oracle_text"].split("\n//\n") for part in whole["card_faces"])


def test_the_printed_name_is_the_side_s_where_it_differs(real: Path, tmp_path: Path) -> None:
    cards = json.loads((real / "scryfall_cards.json").read_text())
    found = {(face.set, face.name): face.printed_name for face in read(tmp_path, cards)[0]}
    assert {key: printed for key, printed in found.items() if printed} == {
        ("ktk", "Abzan Falconer"): "Halconero abzano",
        ("one", "Phyrexian Arena"): "|fyrs,CebDZFst.",
        ("uma", "Fire // Ice"): "火 // 氷",
        ("sld", "Blightsteel Colossus"): "Megatron",
        ("ltc", "Cloudstone Curio"): "Elessar, the Elfstone",
    }


def test_a_printed_name_is_joined_of_the_sides_that_share_a_picture(tmp_path: Path) -> None:
    shared = {"image_uris": uris("a"), "card_faces": [{"name": "A", "printed_name": "Ä"}, {"name": "B"}]}
    same = {"image_uris": uris("b"), "printed_name": "C", "lang": "de"}
    both = {"image_uris": uris("c"), "printed_name": "Ð", "flavor_name": "E"}
    faces, _ = read(tmp_path, [card("A // B", **shared), card("C", **same), card("D", **both)])
    assert [face.printed_name for face in faces] == ["Ä // B", None, "Ð"]


def test_an_index_of_before_these_fields_is_read_and_knows_nothing_of_them(tmp_path: Path) -> None:
    (face,), _ = read(tmp_path, [card("Bear", image_uris=uris("bear"), rarity="rare", promo=False)])
    line = json.loads(face.to_json())
    old = CardFace.from_json(json.dumps({key: line[key] for key in REQUIRED_FIELDS}).encode())
    assert (face.rarity, face.promo, old.rarity, old.promo, old.finishes) == ("rare", False, None, None, ())
    assert (old.name, old.scryfall_id) == (face.name, face.scryfall_id)


def test_the_real_objects_give_197_faces(real: Path, tmp_path: Path) -> None:
    cards = json.loads((real / "scryfall_cards.json").read_text())
    for form in FORMS:
        faces, tally = read(tmp_path, cards, form)
        assert (tally.cards, len(faces)) == (174, 197)
        assert (tally.placeholders, tally.without_picture, tally.repeated_urls) == (1, 1, 0)
        assert len({face.face_id for face in faces}) == 197
        assert all(face.name and face.oracle_id and face.image_url and face.card_url for face in faces)


some_uris = st.none() | st.dictionaries(
    st.sampled_from(["normal", "grid", "large", "png", "of_tomorrow"]),
    st.none() | st.integers() | st.text().map("https://".__add__),
    max_size=3,
)
some_cards = st.lists(
    st.fixed_dictionaries(
        {"id": st.text(), "name": st.text()},
        optional={
            "layout": st.text(),
            "image_status": st.sampled_from(["highres_scan", "placeholder", "missing", None]),
            "image_uris": some_uris,
            "card_faces": st.none()
            | st.lists(st.fixed_dictionaries({}, optional={"name": st.text(), "image_uris": some_uris}), max_size=3),
            "a_field_of_tomorrow": st.lists(st.integers(), max_size=2),
        },
    ),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(some_cards)
def test_all_forms_of_a_list_give_the_same_faces(tmp_path: Path, cards: Cards) -> None:
    expected = read(tmp_path, cards, "jsonl")
    assert expected[1].cards == len(cards)
    assert len({face.image_url for face in expected[0]}) == len(expected[0])
    for form in FORMS:
        assert read(tmp_path, cards, form) == expected


def test_sides_with_pictures_are_faces_and_sides_without_share_the_cards(tmp_path: Path) -> None:
    two_sided = card(
        "Front // Back",
        layout="transform",
        oracle_id="o",
        card_faces=[
            {"name": "Front", "colors": ["U"], "illustration_id": "i0", "image_uris": uris("front")},
            {"name": "Back", "image_uris": uris("back")},
        ],
    )
    split = card(
        "Fire // Ice", layout="split", image_uris=uris("split"), card_faces=[{"name": "Fire"}, {"name": "Ice"}]
    )
    faces, _ = read(tmp_path, [two_sided, split])
    assert [(face.name, face.card_name, face.face_id) for face in faces] == [
        ("Front", "Front // Back", "id-Front // Back:face:0"),
        ("Back", "Front // Back", "id-Front // Back:face:1"),
        ("Fire // Ice", "Fire // Ice", "id-Fire // Ice"),
    ]
    assert faces[0].colors == ["U"]
    assert faces[0].illustration_id == "i0"


def test_a_reversible_card_takes_its_oracle_id_from_its_faces(tmp_path: Path) -> None:
    sides = [{"name": "A", "oracle_id": f"o{i}", "image_uris": uris(f"a{i}")} for i in range(2)]
    faces, _ = read(tmp_path, [card("A // A", layout="reversible_card", card_faces=sides)])
    assert [face.oracle_id for face in faces] == ["o0", "o1"]


def test_what_is_no_picture_is_counted_and_left_out(tmp_path: Path) -> None:
    faces, tally = read(
        tmp_path,
        [
            card("a", image_uris=uris("a")),
            card("not scanned", image_uris=uris("b"), image_status="placeholder"),
            card("not there", image_uris=uris("c"), image_status="missing"),
            card("soon", image_uris={"normal": "https://errors.scryfall.com/soon.jpg"}),
            card("none"),
            card("only a key of tomorrow", image_uris={"hologram": "https://cards.example/h.jpg"}),
            card("again", image_uris=uris("a")),
            card("no address", image_uris={"normal": "http://[x"}),
            card("a file of yours", image_uris={"normal": "file:///etc/passwd"}),
            card("nested", image_uris={"normal": {"of": "tomorrow"}, "large": None}),
            card("layout of tomorrow", layout="moebius", image_uris=uris("m")),
        ],
    )
    assert [face.name for face in faces] == ["a", "layout of tomorrow"]
    assert (tally.placeholders, tally.without_picture, tally.repeated_urls) == (3, 5, 1)


def test_image_key_chooses_the_picture_and_a_large_one_is_shown(tmp_path: Path) -> None:
    cards = [card("a", image_uris=uris("a", "small", "grid", "large", "png"))]
    (face,), _ = read(tmp_path, cards, key="normal")
    assert face.image_url == cards[0]["image_uris"]["grid"]
    assert face.card_url == cards[0]["image_uris"]["large"]
    assert read(tmp_path, cards, key="png")[0][0].image_url == cards[0]["image_uris"]["png"]
    assert read(tmp_path, cards, key="art_crop")[1].without_picture == 1


def test_limit_takes_the_first_faces(tmp_path: Path) -> None:
    cards = [card(str(i), image_uris=uris(str(i))) for i in range(5)]
    assert [face.name for face in read(tmp_path, cards, limit=2)[0]] == ["0", "1"]
    assert read(tmp_path, cards, limit=0)[0] == []


@pytest.mark.parametrize("form", FORMS)
def test_one_bad_card_is_one_bad_card_in_every_form(tmp_path: Path, form: str) -> None:
    cards = [card(str(i), image_uris=uris(str(i)), flavor_text=']} "[{' * 9) for i in range(300)]
    lone = FORMS[form]([*cards[:200], card("bad", id="LONE"), *cards[200:]])
    packed = lone[:2] == b"\x1f\x8b"
    if packed:
        lone = gzip.decompress(gzip.decompress(lone)) if form == "gzipped twice" else gzip.decompress(lone)
    for bad in (rb"\ud83d", b"\xff", b"\x01", b"\\x"):
        path = tmp_path / "list"
        path.write_bytes(gzip.compress(lone.replace(b"LONE", bad)) if packed else lone.replace(b"LONE", bad))
        tally = FaceTally()
        faces = list(iter_faces(path, Selection(), tally))
        assert (len(faces), tally.unreadable) == (300, 1)


@pytest.mark.parametrize("form", ["json", "array on one line", "array indented", "objects indented", "jsonl"])
def test_a_list_that_is_cut_off_is_damaged_wherever_that_is(tmp_path: Path, form: str) -> None:
    whole = FORMS[form]([card(str(i), image_uris=uris(str(i))) for i in range(3)]).rstrip()
    path = tmp_path / "list"
    for end in range(len(whole) - 60, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(PipelineError, match="the card list is damaged"):
            list(iter_faces(path, Selection(), FaceTally()))


def test_a_list_that_can_not_be_read_is_blamed_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither called damaged nor taken for trouble with the folder that its faces are written to."""

    def hiccup(*_: object) -> Iterator[bytes]:
        raise OSError(5, "Input/output error")

    path = tmp_path / "list"
    path.write_bytes(as_lines([card("a", image_uris=uris("a"))]))
    monkeypatch.setattr(list_text, "_bounded", hiccup)
    with pytest.raises(PipelineError, match="the card list can't be read") as caught:
        list(logged_faces(path, Selection()))
    assert caught.value.problems[0].details == f"{path}: Input/output error"


@pytest.mark.parametrize("damage", ["cut off", "not json"])
def test_a_damaged_list_is_named_with_its_line(tmp_path: Path, damage: str) -> None:
    whole = as_lines([card(str(i), image_uris=uris(str(i))) for i in range(200)])
    data = {
        "cut off": gzip.compress(whole)[:-40],
        "not json": whole + b"<html>\n",
    }[damage]
    path = tmp_path / "damaged"
    path.write_bytes(data)
    with pytest.raises(PipelineError, match="the card list is damaged") as caught:
        list(iter_faces(path, Selection(), FaceTally()))
    assert f"damaged, line {'1' if damage == 'cut off' else '201'}" in caught.value.problems[0].details
    assert "--refresh" in caught.value.problems[0].suggestion


@needs_proc
def test_a_list_that_the_disk_does_not_give_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "unique_artwork-20261101000000.jsonl"
    path.symlink_to("/proc/self/mem")  # reading its beginning fails with EIO
    with pytest.raises(PipelineError, match="the card list can't be read") as caught:
        list(iter_faces(path, Selection(), FaceTally()))
    assert "Input/output error" in caught.value.problems[0].details
    assert "--refresh" not in caught.value.problems[0].suggestion


def test_one_odd_card_does_not_cost_the_others(tmp_path: Path) -> None:
    odd = [card("odd", colors=[None]), card("odder", collector_number=5), {"id": "no name"}, [1]]
    cards = [card("first", image_uris=uris("first")), *odd, card("last", image_uris=uris("last"))]
    faces, tally = read(tmp_path, cards)  # type: ignore[arg-type]  # a list is no card
    assert [face.name for face in faces] == ["first", "last"]
    assert (tally.cards, tally.unreadable) == (2, 4)
    assert "4 unreadable cards (the first: line 2: Expected `str`, got `null`" in str(tally)
    with pytest.raises(PipelineError, match="the card list is damaged") as caught:
        read(tmp_path, odd)  # type: ignore[arg-type]
    assert "no card can be read" in caught.value.problems[0].details


# -------------------------------------------------------------------------------------------------------- had and kept


def make_session() -> DownloadSession:
    return DownloadSession(Http(NOBODY, "test", workers=1, read_timeout=5, max_retries=0))


@pytest.fixture
def session() -> DownloadSession:
    return make_session()


def ensure(
    cache: Path, address: str, session: DownloadSession | None, keep_for: timedelta | None = FRESH_FOR, **more: bool
) -> Path:
    if session:  # another server is another session
        http = replace(session.http, api_url=address)
        session = DownloadSession(http, now=session._now, sleep=session._sleep)
    return ensure_card_list(cache, "unique_artwork", session, refresh=more.get("refresh", False), keep_for=keep_for)


def set_description(cache: Path, **fields: object) -> None:
    path = cache / "unique_artwork.list.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_fresh_list_is_not_asked_for_again(drawn: Path, tmp_path: Path, session: DownloadSession) -> None:
    with serving(drawn / "cards.jsonl") as address:
        path = ensure(tmp_path, address, session)
    assert len(list(iter_faces(path, Selection(), FaceTally()))) == 13
    assert ensure(tmp_path, address, session) == path  # nobody listens there any more
    assert ensure(tmp_path, address, None) == path


def test_a_list_of_another_server_is_only_used_where_it_was_downloaded(
    drawn: Path, tmp_path: Path, session: DownloadSession
) -> None:
    with serving(drawn / "cards.jsonl") as address:
        path = ensure(tmp_path, address, session)
    with pytest.raises(PipelineError, match="can't be reached"):
        ensure(tmp_path, NOBODY, session)
    assert ensure(tmp_path, NOBODY, session, keep_for=None) == path  # a build


def test_a_new_list_that_is_damaged_does_not_replace_a_good_old_one(
    drawn: Path, tmp_path: Path, session: DownloadSession, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(drawn / "cards.jsonl") as address:
        path = ensure(tmp_path, address, session)
    with faulty_server() as server:
        entry = {"type": "unique_artwork", "updated_at": "2027", "jsonl_download_uri": f"{server.address}/list"}
        server.answer("/bulk-data", Reply(body=json.dumps({"data": [entry]}).encode()))
        server.answer("/list", Reply(body=path.read_bytes()[:-50]))
        set_description(tmp_path, checked_at="2020-01-01T00:00:00+00:00", api_url=server.address)
        assert ensure(tmp_path, server.address, session) == path
    assert "WARNING: the card list could not be downloaded; using the list kept" in capsys.readouterr().err
    assert len(list(iter_faces(path, Selection(), FaceTally()))) == 13


@pytest.mark.parametrize("damage", [b"{", b"{}", None])
def test_a_list_whose_description_is_lost_is_asked_for_again(
    drawn: Path, tmp_path: Path, session: DownloadSession, damage: bytes | None
) -> None:
    description = tmp_path / "unique_artwork.list.json"
    with serving(drawn / "cards.jsonl") as address:
        path = ensure(tmp_path, address, session)
        whole = json.loads(description.read_text())
        description.write_bytes(damage) if damage else description.unlink()
        assert ensure(tmp_path, address, session) == path
    assert json.loads(description.read_text()) | {"checked_at": 0} == whole | {"checked_at": 0}
    description.unlink()
    assert ensure(tmp_path, NOBODY, session) == path  # better than none


def test_an_old_list_is_fetched_again_only_where_scryfall_has_a_newer_one(
    drawn: Path, tmp_path: Path, session: DownloadSession, capsys: pytest.CaptureFixture[str]
) -> None:
    long_ago = (datetime.now(timezone.utc) - timedelta(hours=25)).isoformat()
    with serving(drawn / "cards.jsonl") as address:
        path = ensure(tmp_path, address, session)
        path.write_bytes(FORMS["jsonl.gz"]([]))  # to see whether it is replaced

        set_description(tmp_path, checked_at=long_ago)
        assert not list(iter_faces(ensure(tmp_path, address, session), Selection(), FaceTally()))
        checked = json.loads((tmp_path / "unique_artwork.list.json").read_text())["checked_at"]
        assert checked > long_ago  # asked, found unchanged, not to be asked again for a day

        set_description(tmp_path, checked_at=long_ago, updated_at="2020-01-01T00:00:00Z")
        assert ensure(tmp_path, address, session, keep_for=None) == path  # a build takes what was downloaded
        assert list(iter_faces(ensure(tmp_path, address, session), Selection(), FaceTally()))

    set_description(tmp_path, checked_at=long_ago)
    capsys.readouterr()
    assert ensure(tmp_path, address, session) == path  # nobody listens there any more; better an old list than none
    assert "WARNING" in capsys.readouterr().err


def test_a_list_of_a_time_to_come_is_asked_for_again_for_the_clock_was_set_back(
    drawn: Path, tmp_path: Path, session: DownloadSession
) -> None:
    to_come = (datetime.now(timezone.utc) + timedelta(days=400)).isoformat()
    with serving(drawn / "cards.jsonl") as address:
        ensure(tmp_path, address, session)
        set_description(tmp_path, checked_at=to_come)
        ensure(tmp_path, address, session)
    assert json.loads((tmp_path / "unique_artwork.list.json").read_text())["checked_at"] < to_come


def test_refresh_fetches_in_any_case_and_drops_the_list_before(
    drawn: Path, tmp_path: Path, session: DownloadSession
) -> None:
    with serving(drawn / "cards.jsonl") as address:
        before = ensure(tmp_path, address, session)
    with serving(drawn / "cards.jsonl") as address:
        set_description(tmp_path, file=before.name)
        before.rename(tmp_path / "unique_artwork-20200101000000.jsonl.gz")
        set_description(tmp_path, file="unique_artwork-20200101000000.jsonl.gz")
        after = ensure(tmp_path, address, session, refresh=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", after.name, "unique_artwork.list.json"]
    with pytest.raises(PipelineError, match="can't be reached"):
        ensure(tmp_path, NOBODY, session, refresh=True)


def test_a_dump_put_into_the_cache_by_hand_is_used_and_kept(tmp_path: Path, session: DownloadSession) -> None:
    dump = tmp_path / "unique-artwork-20240101.json"
    dump.write_bytes(FORMS["json"]([card("old", image_uris=uris("old"))]))
    path = ensure(tmp_path, NOBODY, session)
    assert [face.name for face in iter_faces(path, Selection(), FaceTally())] == ["old"]


def test_offline_without_a_list_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="--offline") as caught:
        ensure(tmp_path, NOBODY, None)
    assert "download_images.py" in caught.value.problems[0].suggestion


def test_a_list_of_another_kind_that_is_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "all_cards.jsonl").write_bytes(as_lines([card("a")]))
    with pytest.raises(PipelineError) as caught:
        ensure_card_list(tmp_path, "unique_artwork", None, refresh=False, keep_for=None)
    assert "use --kind all_cards" in caught.value.problems[0].suggestion


# ------------------------------------------------------------------------------------------------------- gone on with

BIG = as_lines([card(str(i), image_uris=uris(str(i)), flavor_text=str(i) * 900) for i in range(3000)])


def offer(server: FaultyServer, *replies: Reply, size: int | None = None, updated_at: str = "2026") -> None:
    url = server.answer("/list.jsonl.gz", *replies)
    entry: dict[str, Any] = {"type": "unique_artwork", "updated_at": updated_at, "jsonl_download_uri": url}
    server.answer("/bulk-data", Reply(body=json.dumps({"data": [entry | {"compressed_size": size}]}).encode()))


def whole(etag: str = '"v1"', data: bytes = BIG) -> Reply:
    return Reply(body=data, headers={"ETag": etag}, ranges=True)


def cut(share: float, etag: str = '"v1"') -> Reply:
    return Reply(body=BIG[: int(share * len(BIG))], claim=len(BIG), headers={"ETag": etag})


@pytest.mark.parametrize(
    ("before", "now", "asked_for_the_rest", "whole_again"),
    [
        ('"v1"', '"v1"', True, False),
        ('"v1"', '"v2"', True, True),  # another version by now: from the start
        ('W/"v1"', 'W/"v1"', False, True),  # a weak one does not say that bytes are the same
        ("", "", False, True),
    ],
)
def test_a_list_that_broke_off_is_gone_on_with_by_the_next_run(
    tmp_path: Path, session: DownloadSession, before: str, now: str, asked_for_the_rest: bool, whole_again: bool
) -> None:
    with faulty_server() as server:
        offer(server, cut(0.6, before), whole(now), size=len(BIG))
        with pytest.raises(PipelineError, match="could not be downloaded"):
            ensure(tmp_path, server.address, session)
        path = ensure(tmp_path, server.address, session)
        asked = server.headers_seen[-1]
        assert server.asked[-1] == "/list.jsonl.gz"
        assert asked.get("Range") == (f"bytes={int(0.6 * len(BIG))}-" if asked_for_the_rest else None)
        assert asked.get("If-Range") == (before if asked_for_the_rest else None)
        assert (server.bytes_sent[-1] == len(BIG)) == whole_again
    assert path.read_bytes() == BIG
    assert not list(tmp_path.glob("*.part"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5))
def test_a_list_comes_whole_however_often_it_breaks_off(tmp_path_factory: Any, shares: list[float]) -> None:
    folder = tmp_path_factory.mktemp("resume")
    with faulty_server() as server:
        offer(server, *[Reply(body=BIG, headers={"ETag": '"v1"'}, ranges=True, cut=share) for share in shares], whole())
        for _ in shares:
            with pytest.raises(PipelineError):
                ensure(folder, server.address, make_session())
        assert ensure(folder, server.address, make_session()).read_bytes() == BIG
        assert sum(server.bytes_sent) == len(BIG)  # nothing twice


def test_a_list_that_comes_a_megabyte_further_each_time_uses_up_no_tries(tmp_path: Path) -> None:
    clock: list[float] = [0.0]
    session = DownloadSession(
        Http(NOBODY, "test", workers=1, read_timeout=5, max_retries=1),
        now=lambda: clock[0],
        sleep=lambda seconds: clock.append(clock.pop() + seconds),
    )
    with faulty_server() as server:
        breaks = [Reply(body=BIG, headers={"ETag": '"v1"'}, ranges=True, cut=1_100_000) for _ in range(2)]
        offer(server, *breaks, whole(), size=len(BIG))
        assert ensure(tmp_path, server.address, session).read_bytes() == BIG


def test_bytes_of_another_address_are_not_gone_on_with(tmp_path: Path, session: DownloadSession) -> None:
    with faulty_server() as server:
        offer(server, cut(0.6))
        with pytest.raises(PipelineError):
            ensure(tmp_path, server.address, session)
    with faulty_server() as server:
        offer(server, whole())
        assert ensure(tmp_path, server.address, session).read_bytes() == BIG
        assert "Range" not in server.headers_seen[-1]


def test_pieces_of_an_older_list_go_when_a_newer_one_is_there(tmp_path: Path, session: DownloadSession) -> None:
    with faulty_server() as server:
        offer(server, cut(0.6), updated_at="2026-01-01")
        with pytest.raises(PipelineError):
            ensure(tmp_path, server.address, session)
        assert len(list(tmp_path.glob("*.part"))) == 2
        offer(server, whole(), updated_at="2026-01-02")
        ensure(tmp_path, server.address, session)
    assert not list(tmp_path.glob("*.part"))


def test_pieces_that_were_damaged_are_found_when_the_list_is_read(tmp_path: Path) -> None:
    packed = gzip.compress(BIG, 0)
    with faulty_server() as server:
        offer(server, Reply(body=packed, headers={"ETag": '"v1"'}, ranges=True, cut=0.5), whole(data=packed))
        with pytest.raises(PipelineError):
            ensure(tmp_path, server.address, make_session())
        (part,) = tmp_path.glob("*.gz.part")
        part.write_bytes(bytes(part.stat().st_size))
        with pytest.raises(PipelineError, match="could not be downloaded"):
            ensure(tmp_path, server.address, make_session())
        assert not list(tmp_path.glob("*.part"))  # they are not gone on with for ever
        assert ensure(tmp_path, server.address, make_session()).read_bytes() == packed


def test_a_list_without_a_strong_etag_is_not_fetched_for_ever(tmp_path: Path) -> None:
    clock = [0.0]
    session = DownloadSession(
        Http(NOBODY, "test", workers=1, read_timeout=5, max_retries=1),
        now=lambda: clock[0],
        sleep=lambda seconds: clock.append(clock.pop() + seconds),
    )
    with faulty_server() as server:
        offer(server, Reply(body=BIG, cut=1_100_000))
        with pytest.raises(PipelineError):
            ensure(tmp_path, server.address, session)
        assert server.times_asked()["/list.jsonl.gz"] <= 3


@pytest.mark.parametrize("extra", [0, 100])
def test_pieces_that_hold_all_of_it_or_more_do_not_block_the_list(tmp_path: Path, extra: int) -> None:
    with faulty_server() as server:
        offer(server, cut(0.6), whole())
        with pytest.raises(PipelineError):
            ensure(tmp_path, server.address, make_session())
        (part,) = tmp_path.glob("*.gz.part")
        part.write_bytes(BIG + bytes(extra))
        offer(server, whole(), size=len(BIG) if extra else None)
        for _ in range(2):
            with suppress(PipelineError):
                ensure(tmp_path, server.address, make_session())
        assert ensure(tmp_path, server.address, make_session()).read_bytes() == BIG


@pytest.mark.parametrize("damage", ["deflate data", "nesting"])
def test_a_list_that_came_damaged_is_fetched_again(tmp_path: Path, damage: str) -> None:
    good = gzip.compress(BIG)
    bad = {
        "deflate data": good[:2000] + bytes(200) + good[2200:],
        "nesting": gzip.compress(b'{"id": "x", "name": "X", "x": ' + b"[" * 5000),
    }[damage]
    with faulty_server() as server:
        offer(server, Reply(body=bad), whole(data=good))
        with pytest.raises(PipelineError, match="could not be downloaded"):
            ensure(tmp_path, server.address, make_session())
        assert ensure(tmp_path, server.address, make_session()).read_bytes() == good


@pytest.mark.parametrize("form", ["unpacked", "packed once more"])
@pytest.mark.parametrize("broken_off", [False, True])
def test_a_list_that_a_server_unpacks_or_packs_once_more_is_taken(tmp_path: Path, form: str, broken_off: bool) -> None:
    packed = gzip.compress(BIG)
    sent = BIG if form == "unpacked" else gzip.compress(packed)
    with faulty_server() as server:
        cut = [Reply(body=sent, headers={"ETag": '"v1"'}, ranges=True, cut=0.9)] if broken_off else []
        offer(server, *cut, whole(data=sent), size=len(packed))
        for _ in cut:
            with pytest.raises(PipelineError):
                ensure(tmp_path, server.address, make_session())
        path = ensure(tmp_path, server.address, make_session())
        assert sum(server.bytes_sent) == len(sent)
    tally = FaceTally()
    assert (len(list(iter_faces(path, Selection(), tally))), path.read_bytes()) == (3000, sent)


def test_a_dead_proxy_is_named_before_the_list_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(PipelineError, match="can't be reached") as caught:
        ensure(tmp_path, "http://cards.example.org", make_session())
    assert caught.value.problems[0].details.endswith("through the proxy http://127.0.0.1:9")
    assert "HTTP_PROXY" in caught.value.problems[0].suggestion


# ------------------------------------------------------------------------------------------------------------- filters

CARDS = [
    card("a", image_uris=uris("a"), lang="en", games=["paper", "arena"], digital=False),
    card("b", image_uris=uris("b"), lang="de", games=["paper"], set="lea"),
    card("c", image_uris=uris("c"), lang="en", games=["arena"], digital=True, layout="split"),
    card("d", image_uris=uris("d")),
]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (Filters(), "abcd"),
        (Filters(lang=("en",)), "ac"),
        (Filters(lang=("en", "de")), "abc"),
        (Filters(set=("lea",)), "b"),
        (Filters(games=("arena", "mtgo")), "ac"),
        (Filters(layout=("normal",)), "abd"),
        (Filters(exclude_digital=True), "abd"),
        (Filters(lang=("en",), exclude_digital=True), "a"),
    ],
)
def test_filters_take_cards_that_pass_them_all(tmp_path: Path, filters: Filters, names: str) -> None:
    path = tmp_path / "list"
    path.write_bytes(as_lines(CARDS))
    tally = FaceTally()
    assert "".join(face.name for face in iter_faces(path, Selection(filters=filters), tally)) == names
    assert tally.filtered_out == 4 - len(names)
    assert bool(filters) == (filters != Filters())
    assert msgspec.json.decode(msgspec.json.encode(filters), type=Filters) == filters


# ---------------------------------------------------------------------------------------------------- hostile addresses


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://a.example/a.jpg", "https://a.example/../a.jpg", "https://a.example/a\x00.jpg",
     "https://a.example/a b.jpg", "https://a.example/\x1b[2J.jpg", "//a.example/a.jpg", "https://[::1/a.jpg", "https://a\u2100b.example/a.jpg"],
)  # fmt: skip
def test_an_address_that_is_refused_is_counted_and_named(tmp_path: Path, url: str) -> None:
    faces, tally = read(tmp_path, [card("a", image_uris={"normal": url}), card("b", image_uris=uris("b"))])
    assert [face.name for face in faces] == ["b"]
    assert (tally.refused, tally.without_picture) == (1, 1)
    assert f"1 refused addresses (the first: a: {url!r})" in str(tally)
