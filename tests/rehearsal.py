"""`make rehearsal`: every stage at the size of Scryfall's lists, its time and memory, and how both grow; half an hour.

Generated lists and indexes of SIZES faces (13500,54000,540000) go through the project's own scripts, each in a process
of its own: the list is fetched and read, the index made and made again, evaluated, exported, asked, and opened in a
browser. Nothing is embedded: a checkpoint already has all rows, in clusters like printings of cards. What the figures
mean is said in docs/scale.md.

Everything is in FOLDER (rehearsal): the work of a size, which is deleted after it, a log, and table.md. It needs 14 GB
of disk, and memory as the table has it. A stage that takes longer than 45 minutes is stopped; one that fails is named,
and the others go on. Exit codes: 0 done; 1 a stage failed.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.made_list import serving

ROOT = Path(__file__).resolve().parent.parent
SIZES = tuple(sorted(int(size) for size in os.environ.get("SIZES", "13500,54000,540000").split(",")))
FOLDER = Path(os.environ.get("FOLDER", "rehearsal"))
BUILD = os.environ.get("BUILD", "").split()  # more flags for the build
BYTES_A_FACE, LEAST_FREE = 25_000, 1_000_000_000  # of disk
MAX_SECONDS = 2700  # of a stage
TOLD_EVERY = 30  # seconds
PICTURE = ROOT / "docs" / "result.jpg"
PART, ON_CPU = ("-m", "tests.rehearsal_parts"), ("--device", "cpu")


@dataclass(slots=True)
class Figure:
    """What one line of the table has for one size."""

    seconds: float = math.nan
    memory: float = math.nan  # bytes, at most
    failure: str = ""

    def __str__(self) -> str:
        if self.failure:
            return self.failure
        parts = [duration(self.seconds)] if self.seconds == self.seconds else []
        return ", ".join([*parts, *([f"{self.memory / 1e6:,.0f} MB"] if self.memory == self.memory else [])])


Lines = dict[str, dict[int, Figure]]  # by what was measured, then by size


@dataclass(slots=True)
class Rehearsal:
    """The run: where it works, and what it has measured."""

    work: Path
    log: Path
    started: float = field(default_factory=time.monotonic)
    lines: Lines = field(default_factory=dict)

    def stage(self, what: str, faces: int, *words: object, fine: Sequence[int] = (0,)) -> bool:
        """Run a script of the project, or a part; note time, peak memory, and the figures that a part prints.

        Whether it succeeded.
        """
        with open(self.log, "ab+") as log, open(self.work / "figures", "wb+") as figures:
            log.write(f"\n== {faces:,}: {what}\n".encode())
            log.flush()
            figure = self._run(what, faces, [sys.executable, *map(str, words)], fine, log.fileno(), figures.fileno())
            figures.seek(0)
            printed = figures.read().decode()
            log.write(printed.encode())
        if figure.failure or not what.startswith("("):  # what is in brackets is no stage of the product
            self.lines.setdefault(what, {})[faces] = figure
        if str(words[1]) == "tests.rehearsal_parts":
            self._note(faces, printed)
        self.tell(f"{faces:,}: {what}: {figure}")
        return not figure.failure

    def _run(self, what: str, faces: int, words: list[str], fine: Sequence[int], log: int, figures: int) -> Figure:
        environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}", "HF_HUB_OFFLINE": "1"}
        begun = time.monotonic()
        process = subprocess.Popen(words, cwd=ROOT, stdout=figures, stderr=log, env=environment)
        told = begun
        try:
            while True:
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)  # the memory of this process alone
                now = time.monotonic()
                if ended or now - begun > MAX_SECONDS:
                    break
                if now - told > TOLD_EVERY:
                    told = now
                    self.tell(f"{faces:,}: {what} … {now - begun:.0f} s so far")
                time.sleep(0.02)
        except BaseException:
            process.kill()
            raise
        if not ended:
            process.kill()
            process.wait()
            return Figure(failure=f"stopped after {MAX_SECONDS} s")
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in fine:
            return Figure(failure=f"failed (exit code {process.returncode})")
        unit = 1 if sys.platform == "darwin" else 1024
        return Figure(now - begun, unit * usage.ru_maxrss)

    def _note(self, faces: int, printed: str) -> None:
        for what, value in map(json.loads, printed.splitlines()):
            is_memory = what.startswith("memory: ")
            figure = Figure(memory=value) if is_memory else Figure(seconds=value)
            self.lines.setdefault(what.removeprefix("memory: "), {})[faces] = figure

    def tell(self, text: str) -> None:
        print(f"[{(time.monotonic() - self.started) / 60:4.1f} min] {text}", flush=True)


def rehearse(run: Rehearsal, faces: int, address: str) -> None:
    """All stages at one size; what needs an index is left out where none could be made."""
    served, cache, out = (run.work / name for name in ("served", "cache", "out"))
    for folder in (served, cache):
        folder.mkdir(exist_ok=True)
    run.stage("(the list is made)", faces, *PART, "list", served, faces, address)
    fetch = ("download_images.py", "--kind", "all_cards", "--cache", cache)
    asking = ("--api-url", address, "--max-retries", 0, "--limit", 1)
    run.stage("list: fetch and check it", faces, *fetch, *asking, fine=(0, 2))  # no picture can be had
    run.stage("list: note every face as missing", faces, *fetch, "--offline", fine=(2,))
    run.stage("(the rows are made)", faces, *PART, "rows", cache, out, faces)
    build = ("build_embeddings.py", "--kind", "all_cards", "--cache", cache, "--out", out, "--offline", *ON_CPU, *BUILD)
    if run.stage("index: make it", faces, *build, "--model", "cards"):
        run.lines.update(phases(run.lines, out, faces))
        run.stage("index: again, with nothing new", faces, *build, "--model", "cards")
        use(run, faces, out)


def use(run: Rehearsal, faces: int, out: Path) -> None:
    """What is done with an index."""
    searching = ("--sections", "index", "--minutes", 1)
    run.stage("evaluation: the search", faces, "scripts/evaluate_index.py", "--index", out, *searching, *ON_CPU)
    run.stage("evaluation: generated queries", faces, *PART, "judge", out)
    run.stage("query: a photograph, from the start", faces, "query_index.py", PICTURE, "--index", out, *ON_CPU)
    run.stage("query: by vectors", faces, *PART, "ask", out)
    export, parts = run.work / "export", ("--rows-per-file", 20_000, "--compress", "gzip")
    words = ("export_for_browser.py", "--input-dir", out, "--output-dir", export, *parts)
    if run.stage("export: for the browser", faces, *words):
        run.stage("(the browser)", faces, *PART, "browse", export)


def phases(lines: Lines, out: Path, faces: int) -> Lines:
    """The phases of the build, as its manifest has them, added to those of other sizes."""
    manifest = out / "build_manifest.json"
    seconds: dict[str, float] = json.loads(manifest.read_text())["seconds"] if manifest.exists() else {}
    named = {f"index, {name}": Figure(took) for name, took in seconds.items()}
    return {what: {**lines.get(what, {}), faces: figure} for what, figure in named.items()}


# -------------------------------------------------------------------------------------------------------- the table


def table(lines: Lines, sizes: Sequence[int]) -> str:
    """The figures as Markdown, and how they grow between the last two sizes."""
    head = ["", *(f"{size:,}" for size in sizes), "time grows as", "memory grows as"]
    rows = [head, ["---"] * len(head)]
    for what, by_size in lines.items():
        cells = [str(by_size.get(size, "")) for size in sizes]
        ends = [by_size.get(size, Figure()) for size in sizes[-2:]]
        growth = (grows([getattr(end, name) for end in ends], sizes) for name in ("seconds", "memory"))
        rows.append([what, *cells, *growth])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def grows(ends: Sequence[float], sizes: Sequence[int]) -> str:
    """The exponent between the last two sizes; nothing for what is too short to tell."""
    if len(ends) < 2 or not all(end > 1e-4 for end in ends):
        return ""
    exponent = math.log(ends[1] / ends[0]) / math.log(sizes[-1] / sizes[-2])
    return f"n^{round(exponent, 2) + 0.0:.2f}"  # not -0.00


def duration(seconds: float) -> str:
    """Three digits or so."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


def conditions() -> str:
    """Where and when it was measured."""
    load = os.getloadavg()[0]
    python = ".".join(map(str, sys.version_info[:2]))
    return f"{os.cpu_count()} cores, Python {python}, {time.strftime('%Y-%m-%d')}; load average at the end {load:.1f}"


def workplace() -> Path:
    """An empty folder for the work; SystemExit if there is no room on its disk."""
    work = FOLDER.resolve() / "work"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir(parents=True)
    needed = max(LEAST_FREE, BYTES_A_FACE * max(SIZES))
    free = shutil.disk_usage(work).free
    if free < needed:
        shutil.rmtree(work)
        sys.exit(f"{needed / 1e9:.0f} GB of disk are needed, {FOLDER} has {free / 1e9:.0f}: name another with FOLDER=")
    return work


def emptied(work: Path) -> Iterator[int]:
    """The sizes, each with an empty folder."""
    for faces in SIZES:
        shutil.rmtree(work)
        work.mkdir()
        yield faces
    shutil.rmtree(work)


def written(run: Rehearsal, sizes: Sequence[int]) -> str:
    """Write the table of these sizes; what it says."""
    text = f"{table(run.lines, sizes)}\n\n{conditions()}\n"
    (run.log.parent / "table.md").write_text(text)
    return text


def main() -> int:
    """Rehearse at each size, and write the table after each."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stage that runs is stopped, too
    work = workplace()
    run = Rehearsal(work, work.parent / "log.txt")
    run.log.write_text("")
    text = ""
    try:
        for number, faces in enumerate(emptied(work), 1):
            with serving(work / "served") as address:
                rehearse(run, faces, address)
            text = written(run, SIZES[:number])
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"\n{text}\nWritten to {run.log.with_name('table.md')}; log.txt beside it has what each stage said")
    return int(any(figure.failure for by_size in run.lines.values() for figure in by_size.values()))


if __name__ == "__main__":
    raise SystemExit(main())
