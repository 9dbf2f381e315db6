"""Answers as people and programs read them."""

import json
from dataclasses import replace
from typing import Any

import msgspec

from helpers.recognise.collector import CollectorLine
from helpers.recognise.query import Answer, Card, Match, Quad, by_name
from helpers.recognise.seen import Printed
from helpers.recognise.showing import Asked, Searched, at_least, faces_line, faces_table, json_line, table
from tests.test_page import FACE, QUAD, card

MATCH = Match(1, 0.5, FACE)
SEARCHED = Searched(1050, "hnsw", 64)
MANY = Answer("a.jpg", tuple(card(sure=i % 3 > 0) for i in range(40)))


def card_of(quad: "Quad | None", orientation: int, matches: tuple[Match, ...], *clear: Any) -> Card:
    return Card(quad, orientation, matches, by_name(matches), *clear)


def shown(answer: Answer, *, briefly: bool) -> list[str]:
    return table(Asked.picture(answer.image), answer, SEARCHED, briefly=briefly, detected=True).splitlines()


def test_several_cards_take_a_line_each_unless_more_is_asked_for() -> None:
    lines = shown(MANY, briefly=True)
    assert lines[:3] == [
        "a.jpg",
        "  metric inner_product (cosine), efSearch 64, 1,050 rows",
        "  40 cards, 26 of them sure",
    ]
    assert lines[3] == "    1.  0.5000  Island  [LEA 288]  NOT sure (margin 0.30, gap 0.40), at 35,45"
    assert len(lines) == 43
    assert len(shown(MANY, briefly=False)) == 3 + 40 * 3


def test_one_card_is_shown_with_its_corners_and_matches() -> None:
    turned = card_of(QUAD, 90, (Match(1, 0.5, FACE),), None, None, None)
    assert shown(Answer("a.jpg", (turned,)), briefly=True)[2:] == [
        "  card at 10,10 60,10 60,80 10,80, turned by 90 degrees: nothing to compare it with",
        "    1.  0.5000  Island  [LEA 288]",
        "       https://scryfall.com/card/lea/288",
    ]


def test_printings_of_a_name_are_listed_under_it() -> None:
    faces = [msgspec.structs.replace(FACE, set=code, face_id=code) for code in ("lea", "leb", "2ed")]
    plains = msgspec.structs.replace(FACE, name="Plains")
    matches = (Match(1, 0.5, faces[0]), Match(2, 0.4, plains), Match(3, 0.3, faces[1]), Match(4, 0.2, faces[2]))
    found = Card(None, 0, matches[:2], by_name(matches), 0.1, 0.2, True, matches[::2], printing_sure=False)
    assert shown(Answer("a.jpg", (found,)), briefly=False)[4:] == [
        "    1.  0.5000  Island  [LEA 288]",
        "       https://scryfall.com/card/lea/288",
        "       also LEB 288 0.3000, 2ED 288 0.2000",
        "       printing NOT sure: LEA 288, LEB 288",
        "    2.  0.4000  Plains  [LEA 288]",
        "       https://scryfall.com/card/lea/288",
    ]
    (line,) = json.loads(json_line(Asked.picture("a.jpg"), Answer("a.jpg", (found,)), SEARCHED))["cards"]
    assert [(match["name"], match["set"]) for match in line["matches"]] == [("Island", "lea"), ("Plains", "lea")]
    assert [(one["rank"], one["set"]) for one in line["printings"]] == [(1, "lea"), (3, "leb")]
    assert line["printing_sure"] is False


def test_what_was_read_is_told() -> None:
    read = Printed("Island", CollectorLine("288", "lea", "en"))
    found = Card(None, 0, (MATCH,), ((MATCH,),), 0.5, 0.6, True, (MATCH,), True, 0.987654321, read)
    lines = shown(Answer("a.jpg", (found,)), briefly=False)
    assert lines[3] == "  the whole picture: sure (confidence 0.99, margin 0.50, gap 0.60)"
    assert lines[-1] == "       read: title Island, collector line LEA 288 en"
    (line,) = json.loads(json_line(Asked.picture("a.jpg"), Answer("a.jpg", (found,)), SEARCHED))["cards"]
    assert line["read"] == {"title": "Island", "set": "lea", "collector_number": "288", "lang": "en"}
    assert (line["confidence"], line["printing_sure"]) == (0.987654, True)


def test_numbers_are_rounded_and_nothing_is_lost() -> None:
    exact = card_of(QUAD, 0, (Match(1, 1 / 3, FACE),), 0.0, 1 / 3, False)
    line = json.loads(json_line(Asked.picture("a.jpg"), Answer("a.jpg", (exact,)), SEARCHED))
    (found,) = line["cards"]
    assert (found["margin"], found["gap"], found["sure"]) == (0.0, 0.333333, False)
    assert found["matches"][0]["score"] == 0.333333


def test_cards_without_a_match_that_is_good_enough_are_left_out() -> None:
    two = card_of(QUAD, 0, (Match(1, 0.5, FACE), Match(2, 0.2, FACE)), 0.1, 0.1, True)
    bad = card_of(QUAD, 0, (Match(1, 0.1, FACE),), 0.1, 0.1, True)
    (left,) = at_least(Answer("a.jpg", (two, bad)), 0.3).cards
    assert left.matches == two.matches[:1]
    assert at_least(Answer("a.jpg", (two, bad)), -3).cards == (two, bad)
    assert shown(at_least(Answer("a.jpg", (bad,)), 0.3), briefly=True)[2:] == ["  no card"]


def test_a_vote_has_no_place_and_names_what_was_left_out() -> None:
    asked, voted = Asked.vote(["a.jpg", "b\udcff.jpg"]), Answer("", (card(quad=None),))
    lines = table(asked, voted, SEARCHED, briefly=True, detected=True).splitlines()
    assert lines[0] == "2 pictures of one card"
    assert lines[2] == "  sure (margin 0.30, gap 0.40)"
    line = json.loads(json_line(asked, replace(voted, left_out=(Answer("b", error="no such file"),)), SEARCHED))
    assert list(line) == ["images", "metric", "ef_search", "search", "cards", "left_out"]
    assert line["images"] == ["a.jpg", "b\ufffd.jpg"]
    assert line["left_out"] == [{"image": "b", "error": "no such file"}]


def test_words_are_shown_with_their_weights_and_without_a_place() -> None:
    asked = Asked.words({"a dragon": 1.0, "red": -0.5})
    answer = Answer("", (card_of(None, 0, (Match(1, 0.25, FACE),), None, None, None),))
    lines = table(asked, answer, SEARCHED, briefly=True, detected=True).splitlines()
    assert (lines[0], lines[2]) == ("a dragon + red x -0.5", "    1.  0.2500  Island  [LEA 288]")
    line = json.loads(json_line(asked, answer, SEARCHED))
    assert list(line) == ["text", "metric", "ef_search", "search", "cards"]
    assert line["text"] == {"a dragon": 1.0, "red": -0.5}


def test_faces_of_a_name_are_shown_with_those_that_look_like_them() -> None:
    faces = [(FACE, (Match(1, 0.25, FACE),))]
    line = json.loads(faces_line("island", faces))
    assert (line["name"], line["faces"][0]["collector_number"]) == ("island", "288")
    assert line["faces"][0]["nearest"][0]["score"] == 0.25
    assert faces_table("island", faces).splitlines() == [
        "island",
        "  Island  [LEA 288]",
        "       https://scryfall.com/card/lea/288",
        "    1.  0.2500  Island  [LEA 288]",
        "       https://scryfall.com/card/lea/288",
    ]
