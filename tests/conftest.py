"""What tests share: running scripts as a user does, the stand-in, a built index of drawn cards, the real data."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.browser import bare_browser, browser, page, problems, served  # noqa: F401  # fixtures
from tests.pictures import encoded, write
from tests.warm_python import run_warm

settings.register_profile("no deadline", deadline=None)  # another process may have the core for a while
settings.load_profile("no deadline")

ROOT = Path(__file__).resolve().parent.parent
REAL = Path(os.environ.get("MTG_REAL_DATA", ROOT.parent / "shared" / "real"))
DRAWN_COUNT = 12
WHITENED_COUNT = 150

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for child processes in /proc")


def run_script(
    script: str | Path, *arguments: object, cwd: Path | None = None, long: bool = False, input: str = "", **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a script of the project in a process of its own; its exit code and both outputs come back.

    That process has the imports done already, unless `more` (an environment, say) or a `long` time is asked for.
    """
    if not more and not long:
        return run_warm(script, *arguments, cwd=cwd, input=input)
    words, limit = [sys.executable, str(ROOT / script), *map(str, arguments)], 1200 if long else 300
    return subprocess.run(
        words, cwd=cwd, input=input, capture_output=True, text=True, timeout=limit, check=False, **more
    )


def run_well(script: str | Path, *arguments: object, cwd: Path | None = None) -> str:
    """Run a script that must succeed; its stdout comes back."""
    done = run_script(script, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def serving(table: Path, *arguments: object) -> Iterator[str]:
    """The stand-in over `table`; yields its address."""
    script = str(ROOT / "scripts/standin_scryfall.py")
    words = [sys.executable, script, "--table", str(table), *map(str, arguments)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            address = server.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            yield address
        finally:
            server.kill()


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_works() -> None:
    """Shells start background jobs with SIGINT ignored, and the scripts would inherit and honour that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def nothing_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Weights that the user has fetched, or a server of theirs, must not change what tests see."""
    os.environ["HF_HOME"] = str(tmp_path_factory.mktemp("hub"))
    os.environ.pop("SCRYFALL_API_URL", None)
    os.environ.pop("PYTHONUNBUFFERED", None)  # scripts are to behave as where nobody sets it
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"  # torch's threads collapse where another process takes a core


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real cards, which is not part of the project."""
    if not (REAL / "cards.csv").is_file():
        pytest.skip(f"no real cards at {REAL}; set MTG_REAL_DATA to the folder that has them")
    return REAL


Share = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def share(tmp_path_factory: pytest.TempPathFactory) -> Share:
    """Make a folder once for all test workers: whoever comes first fills it, the others wait."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def shared(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one that failed
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return shared


@pytest.fixture(scope="session")
def model() -> Path:
    """The folder of the encoder that comes with the project."""
    return ROOT / "models" / "cards"


@pytest.fixture(scope="session")
def tiny(share: Share) -> Path:
    """The folder of a model that is quick and good for nothing: where weights don't matter."""
    from tests.made_cache import make_tiny_model  # torch: seconds

    return share("tiny", make_tiny_model)


@pytest.fixture(scope="session")
def drawn(share: Share) -> Path:
    """A folder of drawn cards with their table, cards.jsonl."""
    return share("drawn", lambda folder: run_well("scripts/draw_cards.py", "--out", folder, "--count", DRAWN_COUNT))


@pytest.fixture(scope="session")
def many(share: Share) -> Path:
    """A table of 300 small pictures, each another one, for what needs many and does not care what they show."""
    return share("many", fill_with_many) / "cards.csv"


def fill_with_many(folder: Path) -> None:
    lines = ["file,name,set,collector_number,scryfall_id"]
    for i in range(300):
        write(folder / f"{i:03}.jpg", encoded(seed=i))
        lines.append(f"{i:03}.jpg,Card {i},tst,{i + 1},id-{i:03}")
    write(folder / "cards.csv", "\n".join(lines).encode())


@dataclass(frozen=True)
class Built:
    """A cache and the index that was built of it."""

    cache: Path
    index: Path
    model: Path

    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.index / "build_manifest.json").read_text()))

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.index / "mtg_meta.jsonl").read_text().splitlines()]


def without_hashes(index: Path) -> None:
    """Change an index into one that a version before difference hashes built."""
    manifest = json.loads((index / "build_manifest.json").read_text())
    del manifest["sha256"]["mtg_dhash.npy"]
    (index / "build_manifest.json").write_text(json.dumps(manifest))
    (index / "mtg_dhash.npy").unlink()


def make_built(table: Path, model: Path, folder: Path) -> Built:
    """Download and build what `table` describes, from a foreign working directory, in one precision on all CPUs."""
    built = Built(folder / "cache", folder / "index", model)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    with serving(table) as address:
        run_well("download_images.py", "--cache", built.cache, "--api-url", address, cwd=elsewhere)
    run_well(
        *("build_embeddings.py", "--cache", built.cache, "--out", built.index),
        *("--model", f"local-dir:{model}", "--offline", "--precision", "fp32"),
        cwd=elsewhere,
    )
    assert not list(elsewhere.iterdir())  # nothing is written but in the directories named
    return built


@pytest.fixture(scope="session")
def built(drawn: Path, tiny: Path, share: Share) -> Built:
    """The drawn cards, downloaded and built. Not to be changed: tests that change it take a copy."""
    folder = share("built", lambda folder: make_built(drawn / "cards.jsonl", tiny, folder))
    return Built(folder / "cache", folder / "index", tiny)


@pytest.fixture(scope="session")
def recognised(built: Built, model: Path, share: Share) -> Built:
    """The drawn cards, built with a model that tells them apart."""
    words = ("--cache", built.cache, "--model", f"local-dir:{model}", "--offline", "--out")
    return Built(built.cache, share("recognised", lambda out: run_well("build_embeddings.py", *words, out)), model)


@pytest.fixture(scope="session")
def exported(recognised: Built, share: Share) -> Path:
    """The browser's files of the drawn cards, with their encoder. Not to be changed."""
    words = ("--input-dir", recognised.index, "--encoder", "fp32,fp16", "--output-dir")
    return share("exported", lambda out: run_well("export_for_browser.py", *words, out))


@pytest.fixture(scope="session")
def reading(built: Built, share: Share) -> Built:
    """The drawn cards, built with a tiny model whose text tower passes for trained."""
    from tests.made_cache import make_tiny_model  # torch: seconds

    model = share("reading_model", lambda folder: make_tiny_model(folder, reads=True))
    words = ("--cache", built.cache, "--model", f"local-dir:{model}", "--offline", "--out")
    return Built(built.cache, share("reading", lambda out: run_well("build_embeddings.py", *words, out)), model)


@pytest.fixture(scope="session")
def whitened(many: Path, tiny: Path, share: Share) -> Built:
    """An index with enough rows to whiten. Not to be changed."""
    words = ("--pictures", many.parent, "--table", many, "--limit", WHITENED_COUNT, "--model", f"local-dir:{tiny}")
    index = share("whitened", lambda out: run_well("build_embeddings.py", *words, "--out", out))
    return Built(many.parent, index, tiny)


@pytest.fixture(scope="session")
def real_built(real: Path, model: Path, share: Share) -> Built:
    """The real cards, downloaded and built, exported too."""

    def fill(folder: Path) -> None:
        index = make_built(real / "cards.csv", model, folder).index
        run_well("export_for_browser.py", "--input-dir", index, "--output-dir", index)

    folder = share("real", fill)
    return Built(folder / "cache", folder / "index", model)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what a run without the slow tests leaves out."""
    if terminalreporter.config.option.markexpr == "not slow":
        terminalreporter.write_line("The slow tests were left out (torchrun, demo, README, real cards): make test-slow")
