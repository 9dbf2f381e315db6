"""Work done ahead: in order, bounded, and given up where nobody waits for it any more."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import closing
from pathlib import Path

import pytest
import torch

from helpers.build.report import BuildReport
from helpers.build.request import BuildRequest
from helpers.build.stage import build
from helpers.embed.embedder import Embedder
from helpers.embed.model_source import ModelSource
from helpers.embed.preprocess import Preparation
from helpers.lookahead import in_order
from helpers.validation import decode_image
from tests.conftest import Built
from tests.pictures import encoded

LONG_SECONDS = 60.0
MANY_LAYERS = 1000  # ten seconds of them


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


class SlowLayer(torch.nn.Module):
    """One of very many; Ctrl-C is pressed in the third that is begun."""

    def __init__(self, begun: list[int]) -> None:
        super().__init__()
        self.begun = begun

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.begun[0] += 1
        if self.begun[0] == 3:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return batch


def test_ctrl_c_does_not_wait_for_the_batch_in_the_model(built: Built, tmp_path: Path) -> None:
    request = BuildRequest(
        cache=built.cache, out=tmp_path, model=f"local-dir:{built.model}", offline=True, precision="fp32"
    )
    embedder = Embedder.load(ModelSource(request.model, None), Preparation(request.size, request.fit), "cpu")
    begun = [0]
    layers = torch.nn.Sequential(*[SlowLayer(begun) for _ in range(MANY_LAYERS)])
    embedder.tower = layers
    with pytest.raises(KeyboardInterrupt):
        build(request, embedder, BuildReport())
    assert begun[0] < MANY_LAYERS
