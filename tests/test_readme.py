"""The front door tells the truth: every script, flag and target is named there, and the two commands come first."""

import re

import pytest

from tests.conftest import ROOT, run_script
from tests.test_cli_validation import SCRIPTS

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_and_flag_is_named(script: str) -> None:
    assert f"`{script}`" in README
    flags = set(re.findall(r"--[a-z][a-z-]+", run_script(script, "--help").stdout.partition("options:")[2]))
    assert "--version" in flags
    unnamed = {flag for flag in flags if not re.search(rf"{flag}\b(?!-)", README)}
    assert not unnamed


def test_the_two_commands_come_first_and_ci_calls_the_second() -> None:
    first_block = README.split("```")[1]
    assert [line.partition("#")[0].strip() for line in first_block.strip().splitlines()] == ["make demo", "make test"]
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("\nmake test")


def test_every_make_target_is_named() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    assert not [target for target in targets if target != "help" and f"`{target}`" not in README]


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`((?:scripts/|tests/)?[a-z_]+\.(?:py|txt))`", README))
    assert named
    assert not [name for name in named if not (ROOT / name).is_file()]
