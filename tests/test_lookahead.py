"""Work done ahead: in order, bounded, and given up where nobody waits for it any more."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import closing
from pathlib import Path

import pytest

from helpers.embedder import Embedder
from helpers.lookahead import in_order
from helpers.model_source import ModelSource
from helpers.preprocess import Preparation
from helpers.validation import decode_image
from tests.pictures import encoded

LONG_SECONDS = 60.0


def test_results_come_in_order_and_no_more_are_begun_than_allowed() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            begun.append(number)
            yield number

    for number, future in in_order(lambda item: item * item, items(), workers=3, ahead=5):
        assert future.result() == number * number
        assert len(begun) <= number + 5
    assert len(begun) == 20


@pytest.mark.parametrize("where", ["taking", "waiting"])
def test_what_is_under_way_is_given_up_before_it_is_waited_for(where: str) -> None:
    given_up, heard = threading.Event(), []

    def work(_: int) -> None:
        heard.append(given_up.wait(LONG_SECONDS))

    def items() -> Iterator[int]:
        yield 0
        if where == "waiting":
            raise KeyboardInterrupt  # while the next item is waited for
        yield 1

    with (
        pytest.raises(KeyboardInterrupt),
        closing(in_order(work, items(), workers=1, ahead=2, give_up=given_up.set)) as coming,
    ):
        for _ in coming:
            raise KeyboardInterrupt
    assert heard
    assert all(heard)


def test_a_batch_in_the_model_ends_at_its_next_layer(model: Path) -> None:
    embedder = Embedder.load(ModelSource(f"local-dir:{model}", None), Preparation(64, "pad"), "cpu")
    prepared = [embedder.prepare(decode_image(encoded()))]
    with embedder.can_be_given_up() as give_up:
        before = embedder.encode(prepared)
        give_up()
        with pytest.raises(CancelledError):
            embedder.encode(prepared)
    assert (embedder.encode(prepared) == before).all()
