"""What is taken from the line at the bottom of a card, and which printings agree with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.recognise.collector import LANGUAGES, CollectorLine, agreeing
from tests.faces import face_with

NOTHING = CollectorLine()


def parsed(*texts: str) -> CollectorLine:
    return CollectorLine.parse([(text, 0.9) for text in texts])


@pytest.mark.parametrize(
    ("texts", "number", "code", "lang"),
    [
        # Exodus to 2014: in the line of artist and copyright
        (["Illus. Ron Spencer ™ & © 1993-1998 Wizards of the Coast, Inc. 43/143"], "43", None, None),
        (["Greg Hildebrandt", "™ & © 1993–2007 Wizards of the Coast, Inc. 141/383"], "141", None, None),
        (["(TM) & (C) 1993-2008 Wizards of the Coast LLC 005/249"], "5", None, None),
        (["229/350★"], "229", None, None),
        (["12a/88"], "12a", None, None),
        # M15 to 2022
        (["158/249 C", "IMA • EN STEVE PRESCOTT"], "158", "ima", "en"),
        (["158/249C", "IMA·ENSTEVE PRESCOTT"], "158", "ima", "en"),
        (["225/2490", "MM3-EN MARTINAPHCEROIA"], "225", "mm3", "en"),
        (["034/249U IMA*EN SCOTT CHOU"], "34", "ima", "en"),
        (["017/280 R", "M20 ★ JP AOJI"], "17", "m20", "ja"),
        (["003/016 T", "KLD • SP"], "3", "kld", "es"),
        (["O17/28O R", "WAR • KR"], "17", "war", "ko"),
        (["l58/Z49 C", "1MA . CS"], "158", "1ma", "zhs"),
        # since 2023
        (["C 0158", "LTR • EN JOHN HOWE"], "158", "ltr", "en"),
        (["R0266 ™ & © 2023 Wizards of the Coast", "WOE • PH"], "266", "woe", "ph"),
        (["T 0003", "MKM • CT"], "3", "mkm", "zht"),
        (["R 2015", "SLD ★ EN"], "2015", "sld", "en"),
        # promotional cards
        (["034 R", "PLG21 ★ EN"], "34", "plg21", "en"),
        (["012a", "UNF • EN"], "12a", "unf", "en"),
        (["S5", "PHED • EN"], "S5", "phed", "en"),
    ],
)
def test_each_era_s_line_is_read(texts: list[str], number: str, code: str | None, lang: str | None) -> None:
    assert parsed(*texts) == parsed(*reversed(texts)) == CollectorLine(number, code, lang)


@pytest.mark.parametrize(
    "text",
    [
        "™ & © 1993-2008 Wizards of the Coast, Inc.",
        "™ & © 1993/2008 Wizards of the Coast, Inc.",
        "C 2023 Wizards of the Coast",  # a © that was read as a letter
        "10/2003",
        "4/4",
        "12/12",
        "034",  # no set beside it says that it is a number
        "Illus. © Amy Weber",
        "TOKEN",
        "IMA/2EN DAVID",
        "158/2AN",
        "Oil/SOS",  # only letters
        "",
    ],
)
def test_years_power_and_words_are_neither_number_nor_set(text: str) -> None:
    assert parsed(text) == NOTHING


def test_what_is_hardly_legible_is_not_read_and_the_most_confident_goes_first() -> None:
    texts = [("153/249 C", 0.4), ("163/249 C", 0.7), ("158/249 C", 0.8), ("INA • EN", 0.7), ("IMA • EN", 0.9)]
    assert CollectorLine.parse(texts) == CollectorLine("158", "ima", "en")
    assert CollectorLine.parse(texts[:1]) == NOTHING


@given(
    number=st.integers(1, 999),
    total=st.integers(30, 999),
    code=st.from_regex("[A-Z][A-Z0-9]{2}", fullmatch=True),
    lang=st.sampled_from(sorted(LANGUAGES)),
    dot=st.sampled_from("·•*.-★"),
)
def test_whatever_is_printed_is_read_and_agrees(number: int, total: int, code: str, lang: str, dot: str) -> None:
    line = parsed(f"{number:03}/{total:03} R", f"{code} {dot} {lang}")
    assert line == CollectorLine(str(number), code.lower(), LANGUAGES[lang])
    assert parsed(f"R {number:04}", f"{code}{dot}{lang}") == line
    face = face_with(set=code.lower(), collector_number=str(number), lang=LANGUAGES[lang])
    assert agreeing(line, [face]) == [face]


@given(st.lists(st.tuples(st.text(max_size=40), st.floats(0, 1))))
def test_anything_can_be_read(texts: list[tuple[str, float]]) -> None:
    line = CollectorLine.parse(texts)
    assert line.lang is None or line.set is not None


ELDER = face_with(set="10e", collector_number="158", lang="en")
FIRST = face_with(set="ima", collector_number="158", lang="en")
GERMAN = face_with(set="ima", collector_number="158", lang="de")
OTHER_ART = face_with(set="ima", collector_number="12a", lang="en")
LISTED = face_with(set="plst", collector_number="IMA-158", lang="en")
STAR = face_with(set="7ed", collector_number="229★", lang="en")
FACES = [ELDER, FIRST, GERMAN, OTHER_ART, LISTED, STAR]


def test_a_printing_agrees_if_it_has_all_that_is_legible() -> None:
    assert agreeing(NOTHING, FACES) == FACES
    assert agreeing(CollectorLine("158", "ima"), FACES) == [FIRST, GERMAN, LISTED]
    assert agreeing(CollectorLine("158"), FACES) == [ELDER, FIRST, GERMAN, LISTED]
    assert agreeing(CollectorLine(set="7ed"), FACES) == [STAR]
    assert agreeing(CollectorLine("229", "7ed"), FACES) == [STAR]
    assert agreeing(CollectorLine("12a", "ima"), FACES) == [OTHER_ART]


def test_a_contradiction_leaves_none() -> None:
    assert agreeing(CollectorLine("159", "ima"), FACES) == []
    assert agreeing(CollectorLine("158", "m20"), FACES) == []
    assert agreeing(CollectorLine(set="m20"), FACES) == []
    assert agreeing(CollectorLine("158"), []) == []


def test_the_language_picks_where_it_can() -> None:
    assert agreeing(CollectorLine("158", "ima", "de"), FACES) == [GERMAN]
    assert agreeing(CollectorLine("158", "ima", "en"), FACES) == [FIRST, LISTED]
    assert agreeing(CollectorLine("158", "ima", "fr"), FACES) == [FIRST, GERMAN, LISTED]


def test_letters_that_look_like_digits_count_only_where_none_is_the_same() -> None:
    assert agreeing(CollectorLine("158", "1ma", "en"), FACES) == [FIRST, LISTED]
    assert agreeing(CollectorLine("158", "loe"), FACES) == [ELDER]
    midnight = face_with(set="mid", collector_number="294")
    assert agreeing(CollectorLine("294", "mio"), [midnight]) == [midnight]  # as read off two of 140 clean cards
    alike = [face_with(set="m20", collector_number="5"), face_with(set="mzo", collector_number="5")]
    assert agreeing(CollectorLine("5", "m20"), alike) == alike[:1]
    assert agreeing(CollectorLine("5", "m2o"), alike) == alike


def test_a_card_older_than_the_line_does_not_agree_with_it() -> None:
    alpha, exodus, m15 = (
        face_with(set="x", collector_number="5", released_at=date)
        for date in ("1993-08-05", "1998-06-15", "2014-07-18")
    )
    assert agreeing(CollectorLine("5"), [alpha, exodus, m15]) == [exodus, m15]
    assert agreeing(CollectorLine("5", "x"), [alpha, exodus, m15]) == [m15]
    assert agreeing(NOTHING, [alpha, exodus, m15]) == [alpha, exodus, m15]


def test_an_artist_s_name_is_no_set() -> None:
    assert parsed("IMA-EN RON DE SOUSA").set == "ima"
    assert parsed("Illus. RON DE SOUSA") == NOTHING


def test_a_token_shows_its_set_s_code() -> None:
    token = face_with(set="tima", collector_number="3", layout="token")
    card = face_with(set="tima", collector_number="3", layout="normal")
    assert agreeing(CollectorLine("3", "ima"), [token, card]) == [token]
