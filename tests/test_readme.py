"""README.md, CONTRIBUTING.md and docs/ tell the truth: all there is is named, and the commands run as written."""

import importlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

import build_embeddings
from helpers import artifacts
from helpers.artifacts import IndexFolder
from helpers.errors import ExitCode, PipelineError
from helpers.index.store import StoredIndex
from helpers.recognise.query import Answer, Card, Match, by_name
from helpers.recognise.showing import Asked, Searched, table
from helpers.tune.stage import CHECKPOINT
from tests.conftest import ROOT, Built, run_script, serving
from tests.test_cli_validation import SCRIPTS
from tests.test_makefile import TARGETS

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
WRITTEN = "\n".join(text for name, text in PAGES.items() if name != "docs/commands.md")  # that one is generated
BLOCKS = [
    (language, block.strip())
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", WRITTEN, re.MULTILINE | re.DOTALL)
]
SHELL = [block for language, block in BLOCKS if language == "sh"]
PYTHON = ".venv/bin/python "
OWN = [block for block in SHELL if "mkdir -p my" in block or "--port 8123" in block]  # several lines that go together
RUN_ELSEWHERE = {  # commands that no test here runs, and why
    "make demo": "tests/test_demo.py runs its script",
    "make test": "it is what runs this",
    "make test-slow": "it is what runs this",
    "make lint": ".ci/run calls it",
    "make env": "it downloads gigabytes; tests/test_makefile.py tries make's side",
    ".venv/bin/python -m pip wheel --wheel-dir wheels -r requirements-dev.txt": "it downloads gigabytes",
    ".venv/bin/python build_mtg_faiss.py --offline --cache image_cache --out index_out --model cards": (
        "tests/test_offline.py builds so, without a network"
    ),
    ".venv/bin/python docs/picture.py": "it needs the demo, two minutes; what it makes is looked at",
    ".venv/bin/python scripts/tune_model.py --cache image_cache --out tuned": "half an hour; tests/test_tune.py",
    ".venv/bin/python build_embeddings.py --model local-dir:tuned": "the same; tests build with such folders",
}
MADE = [  # make's commands that take seconds in the copy of the project below
    "make doctor",
    "make doctor ARGS=--offline",
    'make download ARGS="--limit 200"',
    'make download CACHE="my cards"',
    "make query IMG=photo.jpg",
    "make validate ARGS=--fix",
    "make build",
    "make build-cpu",
    "make refresh",
    "make refresh OUT=index_out",
    "make clean-cache CACHE=old",
    "make clean",
]
CALLED_BY_CI = {"make env", "make vendor", "make lint", "make lint-web", "make test", "make test-slow"}


def test_the_front_door_is_short() -> None:
    assert len(README.splitlines()) <= 180


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_and_flag_is_named(script: str) -> None:
    assert f"`{script}" in WRITTEN
    flags = set(re.findall(r"--[a-z][a-z-]+", run_script(script, "--help").stdout.partition("options:")[2]))
    assert "--version" in flags
    unnamed = {flag for flag in flags if not re.search(rf"{flag}\b(?!-)", WRITTEN)}
    assert not unnamed


def test_the_two_commands_come_first_and_ci_calls_the_second() -> None:
    first = README.partition("```sh\n")[2].partition("```")[0]
    assert [line.partition("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]
    assert (ROOT / ".ci/run").read_text().splitlines()[-2:] == ["make test", "make test-slow"]


def test_every_make_target_is_named() -> None:
    assert not [target for target in TARGETS if target != "help" and f"`{target}`" not in WRITTEN]


def test_every_exit_code_is_named_where_it_is_looked_for() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", README.partition("## Exit codes")[2].partition("## ")[0], re.MULTILINE)
    assert {int(code) for row in rows for code in row.split(",")} == {int(code) for code in ExitCode}


def test_every_file_that_is_written_is_named(built: Built) -> None:
    folder = IndexFolder(Path("index"))
    listed = [
        value
        for name in vars(IndexFolder)
        if not name.startswith("_") and isinstance(value := getattr(folder, name), Path) and name != "root"
    ]
    files = [path.name for path in (*listed, *folder.checkpoint_files(("embeddings", "pictures", "dhash")))]
    files += [artifacts.DOWNLOAD_REPORT, artifacts.CACHE_LOCK, artifacts.LIST_LOCK, CHECKPOINT]
    files += [path.name for path in built.index.iterdir()]
    files += [
        re.sub(r"^unique_artwork(-\d+)?", lambda m: "<kind>-<version>" if m[1] else "<kind>", path.name)
        for path in built.cache.iterdir()
        if not re.match(r"[0-9a-f]{40}\.", path.name)
    ]
    assert len(files) > 20
    assert not [name for name in files if f"`{name}`" not in PAGES["docs/formats.md"]]


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`((?:scripts/|tests/|helpers/[a-z/]*|docs/)?[a-z_-]+\.(?:py|txt|yml))`", WRITTEN))
    assert {"environment-cpu.yml", "query_index.py"} <= named
    assert not [name for name in named if not (ROOT / name).is_file()]


def anchors(text: str) -> set[str]:
    """The names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page]):
        name, _, anchor = target.partition("#")
        there = (ROOT / page).parent / name if name else ROOT / page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there.read_text(encoding="utf-8")), target


def test_every_error_in_the_table_is_one_that_is_raised() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "helpers").rglob("*.py"))
    rows = README.partition("| first line |")[2].partition("\n\n")[0]
    errors = [error for row in rows.splitlines()[2:] for error in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert len(errors) > 12
    for error in errors:
        assert all(piece.strip() in source for piece in error.split("…")), error


def test_the_sample_of_an_error_is_what_is_said() -> None:
    with pytest.raises(PipelineError) as error:
        build_embeddings.parse_args(["--batch", "0"])
    assert ("text", error.value.render()) in BLOCKS


def test_the_sample_of_an_answer_has_the_form_of_one(reading: Built) -> None:
    (sample,) = (block for language, block in BLOCKS if language == "text" and "metric" in block)
    face = StoredIndex(IndexFolder(reading.index)).records()[0]
    found = re.findall(r"(\d)\. +(-?[\d.]+)  (.*)  \[(\w+) (\d+)\]\n +(\S+)", sample)
    matches = tuple(
        Match(
            int(rank),
            float(score),
            msgspec.structs.replace(face, name=name, set=code.lower(), collector_number=number, scryfall_uri=link),
        )
        for rank, score, name, code, number, link in found
    )
    quad = tuple(tuple(map(float, point.split(","))) for point in re.findall(r"\d+,\d+", sample))
    confidence, margin, gap = map(float, re.findall(r"(?:confidence|margin|gap) ([\d.]+)", sample))
    card = Card(quad, 0, matches, by_name(matches), margin, gap, sure=True, confidence=confidence)  # type: ignore[arg-type]
    answer = Answer(sample.splitlines()[0], (card,))
    assert (
        table(Asked.picture(answer.image), answer, Searched(310, "exact", 32), briefly=False, detected=True) == sample
    )


@pytest.mark.parametrize("page", PAGES)
def test_torchrun_on_one_machine_is_standalone(page: str) -> None:
    """Otherwise it looks up the machine's own name, and hangs where that can't be resolved."""
    calls = re.findall(r"(?:torchrun|torch\.distributed\.run)((?: --?[\w-]+| \d+)*) --nproc-per-node", PAGES[page])
    assert all("--standalone" in call for call in calls)
    assert calls or page not in ("docs/incremental.md", "docs/commands.md")


def make_commands() -> set[str]:
    """Every call of make in the README and docs."""
    commands = set(re.findall(r"^make .*?(?=  +#|$)", "\n".join(SHELL), re.MULTILINE))
    return commands | set(re.findall(r"`(make [^`]+)`", WRITTEN))


def test_every_make_command_runs_dry() -> None:
    commands = make_commands()
    assert len(commands) > 20
    for command in commands:
        words = [*shlex.split(command), "--dry-run", "--assume-old=.venv/.installed"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, command + done.stderr


@pytest.fixture
def checkout(tmp_path: Path, built: Built, drawn: Path) -> Path:
    """A copy of the project as a user has it after `make demo`, with an index of its own and a photograph."""
    for name in ("helpers", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.py"), *ROOT.glob("*.txt"), ROOT / "Makefile"):
        shutil.copy2(file, tmp_path)  # with its time: make compares the environment's with requirements.txt
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shutil.copytree(drawn, tmp_path / "demo" / "cards")
    shutil.copytree(ROOT / "models", tmp_path / "models")
    shutil.copytree(built.cache, tmp_path / "image_cache")
    shutil.copytree(built.cache, tmp_path / "old")
    manifest = Path(shutil.copytree(built.index, tmp_path / "index_out")) / "build_manifest.json"
    manifest.write_text(manifest.read_text().replace('"../cache"', '"../image_cache"'))
    shutil.copy(drawn / "001a.jpg", tmp_path / "photo.jpg")
    return tmp_path


def run_as_written(command: str, cwd: Path, api_url: str = "") -> "subprocess.CompletedProcess[str]":
    """Run a shell command in a group of processes of its own, where the model hub can't be reached."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # the flags of make test
    environment = ours | {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "SCRYFALL_API_URL": api_url or "http://127.0.0.1:9",
    }
    words = ["bash", "-c", command]
    with subprocess.Popen(
        words,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=240)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever it left in the background
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def scripts_called() -> list[str]:
    """Every call of a script that stands on a line by itself, but those that RUN_ELSEWHERE excuses."""
    lines = [line for block in SHELL if block not in OWN for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith(PYTHON) and line not in RUN_ELSEWHERE))


@pytest.mark.slow
def test_commands_of_one_line_run_as_written(checkout: Path, drawn: Path) -> None:
    tried = scripts_called()
    assert len(tried) >= 8
    with serving(drawn / "cards.jsonl") as address:
        for line in tried:
            done = run_as_written(line, checkout, address)
            assert done.returncode == 0, line + done.stderr  # CLIP's weights are not here: the index knows its model


@pytest.mark.slow
def test_make_s_commands_run_as_written(checkout: Path, drawn: Path) -> None:
    assert set(MADE) <= make_commands()
    with serving(drawn / "cards.jsonl") as address:
        for line in MADE:
            done = run_as_written(line, checkout, address)
            assert done.returncode == 0, line + done.stderr


def test_most_commands_are_run() -> None:
    """`pytest -s -k most_commands tests/test_readme.py` prints the share."""
    make = {line for line in make_commands() if not re.match("make (bench|prove|rehearsal)", line)}
    elsewhere = {line for line in RUN_ELSEWHERE if line.startswith(PYTHON)}
    own = {line for block in OWN for line in block.splitlines()}
    run = {*scripts_called(), *MADE, *own, *CALLED_BY_CI, "make demo"}
    known = {*scripts_called(), *elsewhere, *own, *make}
    print(f"\nrun by tests or CI: {len(run & known)} of {len(known)} commands; the other calls of make are tried dry")
    print("not run: " + "; ".join(sorted(known - run)))
    assert len(run & known) > len(known) / 2


@pytest.mark.slow
@pytest.mark.parametrize(("block", "said"), list(zip(OWN, ["Island", "Success rate: 100.0 %"], strict=True)))
def test_the_way_of_one_s_own_pictures_runs_as_written(block: str, said: str, checkout: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = run_as_written("set -e; " + block.replace("8123", str(port)), checkout)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    """Python: tests/test_docs.py; JSON: tests/test_formats.py; HTML: tests/test_web_whole.py.

    Of a line of cron the commands stand elsewhere.
    """
    assert {language for language, _ in BLOCKS} == {"sh", "text", "json", "python", "cron", "html"}
    for line in "\n".join(block for block in SHELL if block not in OWN).splitlines():
        assert line.startswith((PYTHON, "make ", "docker "))  # these: tests/test_container.py
    assert set(RUN_ELSEWHERE) <= {line.partition("  #")[0].strip() for block in SHELL for line in block.splitlines()}


def test_the_night_s_commands_take_their_flags() -> None:
    (night,) = (block for language, block in BLOCKS if language == "cron")
    calls = re.findall(r"\.venv/bin/python (\w+)\.py ?(.*?) >>", night)
    assert len(calls) == 1
    for script, flags in calls:
        importlib.import_module(script).parse_args(flags.split())
