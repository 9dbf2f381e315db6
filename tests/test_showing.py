"""Answers as people and programs read them."""

import json
from dataclasses import replace

from helpers.recognise.query import Answer, Card, Match
from helpers.recognise.showing import Asked, Searched, at_least, faces_line, faces_table, json_line, table
from tests.test_page import FACE, QUAD, card

SEARCHED = Searched(1050, 64)
MANY = Answer("a.jpg", tuple(card(sure=i % 3 > 0) for i in range(40)))


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
    turned = Card(QUAD, 90, (Match(1, 0.5, FACE),), None, None, None)
    assert shown(Answer("a.jpg", (turned,)), briefly=True)[2:] == [
        "  card at 10,10 60,10 60,80 10,80, turned by 90 degrees: nothing to compare it with",
        "    1.  0.5000  Island  [LEA 288]",
        "       https://scryfall.com/card/lea/288",
    ]


def test_numbers_are_rounded_and_nothing_is_lost() -> None:
    exact = Card(QUAD, 0, (Match(1, 1 / 3, FACE),), 0.0, 1 / 3, False)
    line = json.loads(json_line(Asked.picture("a.jpg"), Answer("a.jpg", (exact,)), SEARCHED))
    (found,) = line["cards"]
    assert (found["margin"], found["gap"], found["sure"]) == (0.0, 0.333333, False)
    assert found["matches"][0]["score"] == 0.333333


def test_cards_without_a_match_that_is_good_enough_are_left_out() -> None:
    two = Card(QUAD, 0, (Match(1, 0.5, FACE), Match(2, 0.2, FACE)), 0.1, 0.1, True)
    bad = Card(QUAD, 0, (Match(1, 0.1, FACE),), 0.1, 0.1, True)
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
    assert list(line) == ["images", "metric", "ef_search", "cards", "left_out"]
    assert line["images"] == ["a.jpg", "b\ufffd.jpg"]
    assert line["left_out"] == [{"image": "b", "error": "no such file"}]


def test_words_are_shown_with_their_weights_and_without_a_place() -> None:
    asked = Asked.words({"a dragon": 1.0, "red": -0.5})
    answer = Answer("", (Card(None, 0, (Match(1, 0.25, FACE),), None, None, None),))
    lines = table(asked, answer, SEARCHED, briefly=True, detected=True).splitlines()
    assert (lines[0], lines[2]) == ("a dragon + red x -0.5", "    1.  0.2500  Island  [LEA 288]")
    line = json.loads(json_line(asked, answer, SEARCHED))
    assert list(line) == ["text", "metric", "ef_search", "cards"]
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
