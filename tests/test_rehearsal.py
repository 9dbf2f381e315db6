"""What the rehearsal generates is like Scryfall's, and its table says what was measured."""

from pathlib import Path

import numpy as np
import pytest

from helpers.cards.card_list import FaceTally, iter_faces
from helpers.cards.faces import Selection
from tests.made_list import LINE_BYTES, Cards, write_list
from tests.made_rows import Like, printed, typical
from tests.rehearsal import Figure, grows, table

SIZES = (100, 1000)


def test_a_generated_list_has_the_cards_faces_and_size_asked_for(tmp_path: Path) -> None:
    size, _ = write_list(tmp_path, 200, Cards("http://127.0.0.1:1", lambda face: f"Card {face // 3}"), 210)
    (tmp_path / "list.jsonl.gz").rename(tmp_path / "all_cards-20260101000000.jsonl.gz")
    tally = FaceTally()
    faces = [*iter_faces(tmp_path / "all_cards-20260101000000.jsonl.gz", Selection("all_cards"), tally)]
    assert (tally.cards, len(faces), len({face.image_url for face in faces})) == (200, 210, 210)
    assert [face.name for face in faces] == [f"Card {number // 3}" for number in range(210)]
    assert size == pytest.approx(200 * LINE_BYTES, rel=0.02)


def test_generated_printings_of_a_card_are_near_each_other_and_cards_are_not() -> None:
    card = printed(600, np.random.default_rng(0))
    rows = Like(typical(), np.random.default_rng(1)).printings(card)
    centred = rows - rows.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = (centred @ centred.T)[np.triu_indices(len(card), 1)]
    same = (card[:, None] == card)[np.triu_indices(len(card), 1)]
    assert np.quantile(cosines[same], 0.05) > 0.85
    assert np.quantile(cosines[~same], 0.95) < 0.5


def test_growth_is_the_exponent_between_the_last_two_sizes() -> None:
    assert grows([1.0, 100.0], SIZES) == "n^2.00"
    assert grows([2.0, 2.0], SIZES) == "n^0.00"
    assert grows([float("nan"), 2.0], SIZES) == ""
    assert grows([2.0], SIZES[:1]) == ""


def test_the_table_has_a_line_a_stage_with_time_and_memory_and_names_failures() -> None:
    lines = {
        "index": {100: Figure(0.5, 2e6), 1000: Figure(5, 20e6)},
        "export": {100: Figure(1), 1000: Figure(failure="failed (exit code 2)")},
    }
    text = table(lines, SIZES).splitlines()
    assert text[0] == "|  | 100 | 1,000 | time grows as | memory grows as |"
    assert text[2:] == [
        "| index | 500 ms, 2 MB | 5.0 s, 20 MB | n^1.00 | n^1.00 |",
        "| export | 1.0 s | failed (exit code 2) |  |  |",
    ]
