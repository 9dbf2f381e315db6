"""What is said while long work goes on, and text in any locale."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import talk
from helpers.talk import Progress, as_json_line, human_bytes, percent, printable, say
from tests.conftest import ROOT


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


def stdout_in(encoding: str, monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding, write_through=True))
    return written


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "ascii", "cp1252", "shift_jis"])
def test_a_line_of_json_is_json_whatever_stdout_s_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"name": "Lim-Dûl's Vault", "image": "カード 🃏 \ufffd"}
    written = stdout_in(encoding, monkeypatch)
    print(as_json_line(value))
    assert json.loads(written.getvalue()) == value
    assert written.getvalue().isascii() == (encoding not in ("utf-8", "UTF8"))


def test_a_file_s_name_in_json_gives_a_terminal_no_commands_and_ends_no_line() -> None:
    name = "\x9b2J\x1b[2J\u2028\x85\x7f\U000e0001.jpg"
    line = as_json_line({"image": name})
    assert line.isprintable()
    assert json.loads(line) == {"image": name}


IN_ASCII = """
import os, sys
sys.path.insert(0, sys.argv[2])
from helpers.atomic_io import json_text
from helpers.cli_validation import path, words
from helpers.ending import _make_streams_robust
from helpers.embed.model_source import find_model
from helpers.talk import text_of
_make_streams_robust()
folder = path("--out", sys.argv[1])
assert folder.is_dir()
assert text_of(folder).endswith("/caf\\u00e9"), ascii(text_of(folder))
assert text_of(os.fsdecode(b"a\\xff")) == "a\\ufffd"
source = find_model(words("--model", "local-dir:" + sys.argv[1]), "")
assert source.folder == folder
assert source.name == "local-dir:caf\\u00e9"
assert json_text(f"local-dir:{folder}") == json_text(source.model)
assert find_model(source.model, "").folder == folder  # as a manifest has it
assert os.path.isdir(sys.stdin.readline().rstrip())
"""


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "cp1252"}])
def test_a_path_in_utf_8_is_understood_in_any_locale(locale: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "café"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", IN_ASCII, folder, ROOT],
        input=os.fsencode(folder),
        env=os.environ | locale,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
