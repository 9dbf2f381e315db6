"""What long work says where nobody watches: one line a minute, with rate and ETA."""

import pytest

from helpers import talk
from helpers.talk import Progress, human_bytes, percent, printable, say


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(talk, "time", clock)
    return clock


def test_a_line_a_minute_says_how_much_how_fast_and_how_long(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("Embedding", 1000, "images", lambda: "3 broken") as progress:
        for _ in range(119):
            clock.time += 1
            progress.advance(2)
    assert capsys.readouterr().err.splitlines() == [
        "Embedding: 120/1,000 images, 12.0 %, 2.0 images/s, ETA 0:07:20, 3 broken"
    ]


def test_what_an_earlier_run_did_counts_as_done_but_not_for_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("Embedding", 1000, "images", before=500) as progress:
        clock.time += 60
        progress.advance(60)
    assert capsys.readouterr().err == "Embedding: 560/1,000 images, 56.0 %, 1.0 images/s, ETA 0:07:20\n"


def test_shares_of_nothing_and_sizes_are_said_in_words() -> None:
    assert (percent(1, 0), percent(1, 3)) == ("N/A", "33.3 %")
    assert [human_bytes(n) for n in (0, 999, 1500, 2.5e9, 3e12)] == ["0 B", "999 B", "1.5 KB", "2.5 GB", "3.0 TB"]


def test_what_was_there_before_counts_as_done_but_not_for_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("Downloading", 1000, "pictures") as progress:
        progress.already(700)
        clock.time += 60
        progress.advance(60)
    assert capsys.readouterr().err == "Downloading: 760/1,000 pictures, 76.0 %, 1.0 pictures/s, ETA 0:04:00\n"


def test_a_card_s_name_can_give_a_terminal_no_commands(capsys: pytest.CaptureFixture[str]) -> None:
    say("\x1b[2JÆther\x07 Vial\x9b")
    assert (
        capsys.readouterr().err
        == "\N{REPLACEMENT CHARACTER}[2JÆther\N{REPLACEMENT CHARACTER} Vial\N{REPLACEMENT CHARACTER}\n"
    )
    assert printable("two\nlines\tand a tab") == "two\N{REPLACEMENT CHARACTER}lines\tand a tab"
    say("two\nlines")
    assert capsys.readouterr().err == "two\nlines\n"
