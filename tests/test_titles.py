"""Which names of an index a text may be, and how much it says for each."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.recognise.titles import TITLE_READ_FROM, Titles, normalised
from tests.faces import face_with, records_of

CARDS = [
    ("Orcish Artillery", None),
    ("Orcish Oriflamme", None),
    ("Shatter", None),
    ("Holy Strength", None),
    ("Unholy Strength", None),
    ("Opt", None),
    ("Lim-Dûl's Vault", None),
    ("Æther Vial", None),
    ("Borrowing 100,000 Arrows", None),
    ("Fire // Ice", "火 // 氷"),
    ("Abzan Falconer", "Halconero abzano"),
    ("Abzan Falconer", None),
    ("Lightning Bolt", "Молния"),
    ("Counterspell", "対抗呪文"),
    ("Cloudstone Curio", "Elessar, the Elfstone"),
]
FACES = [face_with(name=name, card_name=name, printed_name=printed) for name, printed in CARDS]
TITLES = Titles(FACES)


def names_of(*texts: str, sure: float = 0.9) -> list[str]:
    return [read.name for read in TITLES.search([(text, sure) for text in texts])]


def evidence(titles: Titles, texts: list[tuple[str, float]], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the texts say for each of the rows."""
    found = {row: read.evidence for read in titles.search(texts, 100) for row in read.rows.tolist()}
    return np.array([found.get(row, 0.0) for row in rows.tolist()], np.float32)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Orcich Arillery06", "Orcish Artillery"),
        ("OrcishOriflamme", "Orcish Oriflamme"),
        ("SHATTER②", "Shatter"),
        ("Lim-Dul's Vau1t 1**", "Lim-Dûl's Vault"),
        ("Aether Vial1", "Æther Vial"),
        ("Borrowing 100,000 Arrows3*", "Borrowing 100,000 Arrows"),
        ("Ice1", "Ice"),
        ("火", "火"),
        ("Halconero abzano2", "Halconero abzano"),
        ("Молния", "Молния"),
        ("対抗咒文", "対抗呪文"),
        ("Elessar, the Elfstone", "Elessar, the Elfstone"),
        ("Holy Strength", "Holy Strength"),
    ],
)
def test_the_name_is_found_whatever_ocr_makes_of_it(text: str, name: str) -> None:
    assert names_of(text)[0] == name


def test_the_best_of_several_texts_counts() -> None:
    texts = [("", 0.0), ("Shixtter", 0.8), ("Shatter", 0.9), ("nois", 0.6)]
    best, *_ = TITLES.search(texts)
    assert (best.name, best.similarity) == ("Shatter", 1)
    assert best.evidence > TITLE_READ_FROM


@pytest.mark.parametrize("text", ["Shatter②", "Shatter 1*", "(Shatter4***", "Borrowing 100,000 Arrows3*", "Opt0"])
def test_a_mana_cost_read_as_digits_and_signs_costs_nothing(text: str) -> None:
    assert TITLES.search([(text, 0.9)])[0].similarity == 1


def test_what_is_hardly_legible_or_has_no_letters_is_no_name() -> None:
    for text, sure in (("Shatter", 0.3), ("", 0.9), ("…*", 0.9)):
        assert TITLES.search([(text, sure)]) == []
        assert not evidence(TITLES, [(text, sure)], np.arange(len(FACES))).any()
    assert TITLES.search([]) == []
    assert Titles([]).search([("Shatter", 0.9)]) == []


def test_a_name_s_rows_are_those_that_have_it() -> None:
    rows = {
        read.name: read.rows.tolist()
        for text in ("Abzan Falconer", "Halconero abzano")
        for read in TITLES.search([(text, 0.9)], 1)
    }
    assert rows == {"Abzan Falconer": [10, 11], "Halconero abzano": [10]}


def test_evidence_is_for_a_row_by_any_of_its_names_and_not_for_others() -> None:
    found = evidence(TITLES, [("Halconero abzano2", 0.9)], np.array([10, 11, 2]))
    assert found[0] > TITLE_READ_FROM > found[1] >= 0
    assert found[2] < 0.1
    assert TITLES.search([("Halconero abzano2", 0.9)])[0].evidence == pytest.approx(found[0])


def test_a_near_name_of_another_card_makes_evidence_less() -> None:
    without = Titles([face for face in FACES if face.name != "Unholy Strength"])
    (far,) = evidence(without, [("Holy Strength", 0.9)], np.array([3]))
    near, other = evidence(TITLES, [("Holy Strength", 0.9)], np.array([3, 4]))
    assert far > near + 0.1 > other
    assert other == pytest.approx(12 / 14 - 0.5)  # two letters too many, and what was read is a name itself
    blurred = [("oly Strength", 0.9)]
    assert evidence(without, blurred, np.array([3])) > TITLE_READ_FROM > evidence(TITLES, blurred, np.array([3]))


def test_another_printing_s_name_is_no_rival() -> None:
    alone = Titles([face_with(name="Shatter", card_name="Shatter")])
    both = Titles([face_with(name="Shatter", card_name="Shatter", printed_name="Shattered")] * 2)
    text = [("Shatter", 0.9)]
    assert evidence(both, text, np.array([0])) == evidence(alone, text, np.array([0])) == 0.75


def test_an_error_costs_a_short_name_more() -> None:
    short, long = TITLES.search([("0pt", 0.9)])[0], TITLES.search([("0rcish Artillery", 0.9)])[0]
    assert (short.name, long.name) == ("Opt", "Orcish Artillery")
    assert short.evidence < TITLE_READ_FROM < long.evidence


def test_sides_with_pictures_of_their_own_have_their_own_titles() -> None:
    sides = [face_with(name=name, card_name="Delver // Aberration") for name in ("Delver", "Aberration")]
    front, back = evidence(Titles(sides), [("Aberration", 0.9)], np.array([0, 1]))
    assert front < 0.5 < TITLE_READ_FROM < back


def test_a_masked_name_is_not_found_and_rivals_no_other() -> None:
    text, masked = [("Holy Strength", 0.9)], np.array([3])
    assert TITLES.search(text)[0].name == "Holy Strength"
    first = TITLES.search(text, masked=masked)[0]
    assert (first.name, first.evidence > TITLE_READ_FROM) == ("Unholy Strength", True)
    assert TITLES.search([("Abzan Falconer", 0.9)], masked=np.array([11]))[0].name == "Abzan Falconer"  # row 10 has it


def test_a_masked_name_may_have_no_letters() -> None:
    titles = Titles([face_with(name=name, card_name=name) for name in ("Ox", "_____")])
    assert [read.name for read in titles.search([("Ox", 0.9)], masked=np.array([1]))] == ["Ox"]


def test_metadata_is_read_from_its_file_and_by_several_threads(tmp_path: Path) -> None:
    titles, found = Titles(records_of(tmp_path / "meta.jsonl", FACES)), dict[str, str]()

    def ask(text: str) -> None:
        found[text] = titles.search([(text, 0.9)])[0].name

    threads = [threading.Thread(target=ask, args=(name,)) for name, _ in CARDS[:8]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: name for name, _ in CARDS[:8]}


@given(st.lists(st.tuples(st.text(max_size=30), st.floats(0, 1)), max_size=4))
def test_anything_can_be_asked_and_evidence_has_bounds(texts: list[tuple[str, float]]) -> None:
    found = evidence(TITLES, texts, np.arange(len(FACES)))
    assert found.shape == (len(FACES),)
    assert ((found >= 0) & (found <= 0.75)).all()
    reads = TITLES.search(texts, 3)
    assert len(reads) <= 3
    assert [read.similarity for read in reads] == sorted((read.similarity for read in reads), reverse=True)
    if reads:
        assert max(found[reads[0].rows]) == pytest.approx(found.max())


@given(
    st.lists(
        st.text(min_size=1, max_size=20).filter(lambda name: name[-1].isalpha()), min_size=1, max_size=8, unique=True
    )
)
def test_every_name_that_has_letters_is_found_by_itself(names: list[str]) -> None:
    titles = Titles([face_with(name=name, card_name=name) for name in names])
    for row, name in enumerate(names):
        if normalised(name):
            (best,) = titles.search([(name, 1.0)], 1)
            assert best.similarity == 1
            assert row in best.rows


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Lim-Dûl's Vault", "limdulsvault"),
        ("Æther Væpør", "aethervaepor"),
        ("Wear // Tear②", "weartear2"),
        ("Ёлка", "елка"),
        ("火の玉・ガーディアン", "火の玉ガーディアン"),  # a kana's mark makes another letter of it
        ("번개 화살", "번개화살"),
        ("閃電擊!", "閃電擊"),
    ],
)
def test_only_letters_and_digits_are_left_of_any_script(text: str, plain: str) -> None:
    assert normalised(text) == plain


@given(st.text())
def test_normalising_twice_is_normalising_once(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    assert once.isalnum() or not once
