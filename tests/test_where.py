"""Conditions that rows must pass, and searches among those that do."""

from pathlib import Path

import numpy as np
import pytest

import query_index
from helpers.cards.faces import CardFace
from helpers.errors import PipelineError
from helpers.recognise.ranking import CutOut
from helpers.recognise.where import Where, all_of
from tests.faces import face_with, records_of
from tests.test_ranking import random_hashes, random_rows, ranker

FACES = [
    face_with(name="Bear", set="lea", lang="en", rarity="common", type_line="Creature — Bear", finishes=("nonfoil",)),
    face_with(
        name="Bear", set="leb", lang="de", rarity="rare", type_line="Creature — Bear", finishes=("foil", "etched")
    ),
    face_with(name="Jace, the Mind=Sculptor", set="wwk", lang="en", promo=True, released_at="2010-02-05"),
    face_with(name="Opt", set="lea", lang="en", colors=["U"], promo=False, oracle_text="Scry 1, then draw a card."),
    face_with(name="Dûl", set="leb", lang=None, released_at="1993-10-04"),
]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("set=lea", [0, 3]),
        ("SET = LEA", [0, 3]),
        ("set=lea,set=leb", [0, 1, 3, 4]),
        ("set=lea|leb", [0, 1, 3, 4]),
        ("set=lea|leb,lang=en", [0, 3]),
        ("lang=en,set=wwk", [2]),
        ("lang=", [4]),
        ("name=Jace, the Mind=Sculptor", [2]),
        ("name=dÛl,set=leb", [4]),
        ("type_line=bear", [0, 1]),
        ("oracle_text=draw a card", [3]),
        ("type_line=", [2, 3, 4]),
        ("released_at=1993", [4]),
        ("released_at=2010-02|1993-10", [2, 4]),
        ("promo=true", [2]),
        ("promo=False", [3]),
        ("finishes=foil", [1]),
        ("finishes=etched|nonfoil", [0, 1]),
        ("colors=", [0, 1, 2, 4]),
        ("collector_number=", [0, 1, 2, 3, 4]),
    ],
)
def test_rows_pass_that_fit_every_field_in_one_of_its_values(tmp_path: Path, text: str, rows: list[int]) -> None:
    assert Where.parse(text).rows(records_of(tmp_path / "meta", FACES)).tolist() == rows


def test_several_wheres_are_as_one(tmp_path: Path) -> None:
    several = all_of([Where.parse("set=lea"), Where.parse("lang=en|de,set=leb")])
    assert several == Where.parse("set=lea|leb,lang=en|de")
    assert all_of([]) is None


@pytest.mark.parametrize("text", ["colour=W", "set", "=lea", "set:lea", "", "lang=en,colour=W"])
def test_a_field_that_there_is_not_is_told_with_those_there_are(text: str) -> None:
    with pytest.raises(PipelineError) as caught:
        Where.parse(text)
    (problem,) = caught.value.problems
    assert "--where" in problem.message
    assert all(field in problem.suggestion for field in CardFace.__struct_fields__)


def test_the_command_line_names_every_where_that_is_wrong() -> None:
    with pytest.raises(PipelineError) as caught:
        query_index.parse_args(["a.jpg", "--where", "colour=W", "--where", "set", "--k", "0"])
    assert [problem.message for problem in caught.value.problems] == [
        "--where must use a field that there is, not colour",
        "--where must be FIELD=VALUE",
        "--k must be >= 1",
    ]


def test_a_filter_that_no_row_passes_says_which_condition_and_what_there_is(tmp_path: Path) -> None:
    def said(text: str) -> str:
        with pytest.raises(PipelineError, match="no row of the index passes --where") as caught:
            Where.parse(text).rows(records_of(tmp_path / "meta", FACES))
        return caught.value.render()

    assert "5 rows; set=le: 0, lang=en: 3" in said("set=le,lang=en")
    assert "such as set=leb, set=lea" in said("set=le,lang=en")
    assert "set=wwk: 1, lang=de: 1" in said("set=wwk,lang=de")
    assert "leave out a condition" in said("set=wwk,lang=de")
    assert "no face of this index has it" in said("border_color=black")  # as an index of before that field


# ----------------------------------------------------------------------------------------------------------- searching


@pytest.mark.parametrize("kept", [1, 3, 40, 600])
def test_the_answer_is_that_of_exact_search_among_the_rows_that_pass(tmp_path: Path, kept: int) -> None:
    rows, hashes, rng = random_rows(2000), random_hashes(2000), np.random.default_rng(5)
    among = np.sort(rng.choice(2000, kept, replace=False))
    made = ranker(tmp_path, rows, hashes, among=among)
    asked, digests = random_rows(20, seed=3), random_hashes(20, seed=3)
    for vector, digest, ranking in zip(asked, digests, made.answer(asked, digests), strict=True):
        scores = made.scores(CutOut(ranking, vector, digest), among)
        assert ranking.rows[:10].tolist() == among[np.argsort(-scores, kind="stable")][:10].tolist()
        assert np.allclose(ranking.scores[:10], np.sort(scores)[::-1][:10])
        assert len(ranking.rows) >= min(kept, 512)


def test_a_row_that_passes_is_as_sure_as_without_a_filter(tmp_path: Path) -> None:
    rows, hashes = random_rows(600), random_hashes(600)
    (free,) = ranker(tmp_path, rows, hashes).answer(rows[7:8], hashes[7:8])
    (kept,) = ranker(tmp_path, rows, hashes, among=np.array([7, 9])).answer(rows[7:8], hashes[7:8])
    assert (kept.rows[0], kept.scores[0], kept.margin, kept.sure) == (7, free.scores[0], free.margin, True)
    assert kept.rows.tolist() == [7, 9]
    assert free.sure


@pytest.mark.parametrize("among", [[9], [9, 10, 11]])
def test_nothing_is_sure_where_the_card_itself_does_not_pass(tmp_path: Path, among: list[int]) -> None:
    rows, hashes = random_rows(600), random_hashes(600)
    (ranking,) = ranker(tmp_path, rows, hashes, among=np.array(among)).answer(rows[7:8], hashes[7:8])
    assert sorted(ranking.rows.tolist()) == among
    assert (ranking.sure, ranking.likely) == (False, False)
    assert ranking.margin is not None
    assert ranking.margin < 0


def test_another_printing_that_does_not_pass_is_no_rival(tmp_path: Path) -> None:
    rows, hashes = random_rows(600), random_hashes(600)
    rows[8], hashes[8] = rows[7], hashes[7]
    names = [f"Card {row - (row == 8)}" for row in range(600)]
    (ranking,) = ranker(tmp_path, rows, hashes, names, among=np.array([8])).answer(rows[7:8], hashes[7:8])
    assert (ranking.rows.tolist(), ranking.sure) == ([8], True)


def test_where_the_cards_are_does_not_depend_on_a_filter(tmp_path: Path) -> None:
    rows, hashes = random_rows(50), random_hashes(50)
    free, kept = (ranker(tmp_path, rows, hashes, among=among) for among in (None, np.array([9])))
    (one,), (other,) = (made.rank(rows[7:8], hashes[7:8]) for made in (free, kept))
    assert (one.strength, one.sure) == (other.strength, other.sure)
    assert np.array_equal(np.asarray(free.nearest_hashes(hashes)), np.asarray(kept.nearest_hashes(hashes)))


def test_rows_that_pass_but_are_masked_are_no_answer(tmp_path: Path) -> None:
    rows, hashes, among = random_rows(100), random_hashes(100), np.array([4, 5, 6])
    made = ranker(tmp_path, rows, hashes, among=among)
    (ranking,) = made.answer(rows[5:6], hashes[5:6], np.array([5, 70]))
    assert sorted(ranking.rows.tolist()) == [4, 6]
    (nothing,) = made.answer(rows[5:6], hashes[5:6], among)
    assert (len(nothing.rows), nothing.sure) == (0, None)
    assert made.leaves_none(among)
    assert not made.leaves_none(among[1:])


def test_an_index_without_hashes_is_filtered_too(tmp_path: Path) -> None:
    rows = random_rows(100)
    (ranking,) = ranker(tmp_path, rows, None, among=np.array([3, 60])).answer(rows[60:61], random_hashes(1))
    assert ranking.rows.tolist() == [60, 3]
