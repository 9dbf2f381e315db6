"""Answers as people and programs read them."""

import json

from helpers.recognise.query import Answer, Card, Match
from helpers.recognise.showing import Asked, Searched, at_least, json_line, table
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
    assert at_least(Answer("a.jpg", (two, bad)), None).cards == (two, bad)
    assert shown(at_least(Answer("a.jpg", (bad,)), 0.3), briefly=True)[2:] == ["  no card"]
