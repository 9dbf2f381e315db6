"""Checks that need nothing but Python: they work before there is an environment."""

import os
import platform
import resource
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from helpers.artifacts import VENDORED, WEB
from helpers.cards.sizes import LISTS, MEAN_BYTES
from helpers.doctor.finding import MISSING, NOTE, OK, Finding
from helpers.machine_limits import open_files_for, usable_cores, usable_memory
from helpers.packages import requirements
from helpers.talk import human_bytes

# Measured, see docs/operations.md
ENVIRONMENT_BYTES = 5_500_000_000  # with PyTorch's CUDA build
ROW_BYTES = 2_048 + 2_319 + 1_294 + 1_142 + 68 + 32  # in an index: vector, both FAISS files, metadata, picture, hash
WORK_BYTES = 2_100 + 512 + 256 + 32 + 1_142  # of a row: checkpoint, browser files
MEMORY_BYTES, ROW_MEMORY_BYTES = 1_265_000_000, 9_000  # of a build, and more for a row

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 16  # the default of --workers
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def python() -> Finding:
    """Which Python this is; one that is too old has said so before."""
    activated = sys.prefix != sys.base_prefix or sys.prefix == os.environ.get("CONDA_PREFIX")
    where = f"environment {sys.prefix}" if activated else f"{sys.executable}, no environment"
    return Finding(OK, "Python", f"{platform.python_version()}, {where}")


def packages() -> Finding:
    """Whether the packages are there and new enough."""
    wanted = list(requirements())
    lacking = [lack for one in wanted if (lack := one.lacks())]
    if not lacking:
        return Finding(OK, "packages", f"all {len(wanted)} of requirements.txt")
    found = ", ".join(lacking[:3]) + (f", and {len(lacking) - 3} more" if len(lacking) > 3 else "")
    advice = "run make env" + (", after apt install python3-venv (Debian)" if _lacks_venv() else "")
    return Finding(MISSING, "packages", found, advice)


def _lacks_venv() -> bool:
    try:
        import ensurepip  # noqa: F401  # Debian has it in a package of its own
        import venv  # noqa: F401
    except ImportError:
        return True
    return False


def cores() -> Finding:
    """How many cores we may use."""
    usable, there = usable_cores(), os.cpu_count() or 1
    return Finding(OK, "cores", f"{usable}" + (f" of {there}" if usable < there else ""))


def memory(kind: str) -> Finding:
    """Whether a build of the list `kind` has enough."""
    usable, needed = usable_memory(), MEMORY_BYTES + LISTS[kind].cards * ROW_MEMORY_BYTES
    found = f"{human_bytes(usable)}; a build of {kind} needs {human_bytes(needed)}"
    if usable >= needed:
        return Finding(OK, "memory", found)
    return Finding(MISSING, "memory", found, "use a larger machine or container, or choose fewer cards: --limit")


@dataclass(frozen=True, slots=True)
class Need:
    """How many bytes will be written to a folder, which need not exist, nor be there alone on its disk."""

    folder: Path
    bytes: int

    @property
    def parent(self) -> Path:
        """The folder, or what there is of its path."""
        whole = self.folder.absolute()
        return next(path for path in (whole, *whole.parents) if os.path.isdir(path))  # noqa: PTH112  # pathlib's raises where we may not look

    @property
    def disk(self) -> int:
        """The disk that it is on."""
        return self.parent.stat().st_dev


def needs(kind: str, cache: Path, out: Path, environment: bool) -> list[Need]:
    """What a build of the list `kind` will write: pictures that are there already are left out."""
    size = LISTS[kind]
    pictures = max(0, size.cards - _entries(cache)) * MEAN_BYTES["normal"]
    found = [Need(cache, pictures + size.file_bytes), Need(out, size.cards * (ROW_BYTES + WORK_BYTES))]
    return [*found, Need(ROOT, ENVIRONMENT_BYTES)] if environment else found


def _entries(folder: Path) -> int:
    """How many files and folders are in a folder; 0 if it can't be listed."""
    try:
        return sum(1 for _ in folder.iterdir())
    except OSError:
        return 0


def disks(wanted: Iterable[Need], kind: str) -> Iterator[Finding]:
    """Whether each disk has room for what will be written to it, and we may."""
    for _, group in groupby(sorted(wanted, key=lambda need: need.disk), key=lambda need: need.disk):
        same = list(group)
        needed, free = sum(need.bytes for need in same), shutil.disk_usage(same[0].parent).free
        folders = ", ".join(str(need.folder) for need in same)
        found = f"{human_bytes(free)} free in {folders}; {kind} needs {human_bytes(needed)}"
        locked = [need.parent for need in same if not os.access(need.parent, os.W_OK | os.X_OK)]
        if locked:
            yield Finding(MISSING, "disk", f"{locked[0]} can't be written to", "name other directories (CACHE, OUT)")
        elif needed > free:
            advice = "make room, name other directories (CACHE, OUT), or choose fewer cards: --set, --lang, --limit"
            yield Finding(MISSING, "disk", found, advice)
        else:
            yield Finding(OK, "disk", found)


def open_files() -> Finding:
    """Whether a download may open as many files as it wants to; it raises the soft limit itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= open_files_for(WORKERS):
        return Finding(OK, "open files", "no limit" if hard == resource.RLIM_INFINITY else f"{hard:,}")
    return Finding(NOTE, "open files", f"{hard}: a download uses fewer workers", "run ulimit -n 1024 before it")


def clock() -> Finding:
    """Whether the clock is later than the project's files: with a wrong one, certificates are refused."""
    today = time.strftime("%Y-%m-%d")
    if time.time() >= Path(__file__).stat().st_mtime - 86_400:
        return Finding(OK, "clock", today)
    return Finding(NOTE, "clock", f"{today}: before this project's files were made", "set it: servers seem forged")


def port(number: int) -> Finding:
    """Whether `make serve` can listen there."""
    try:
        with socket.create_server(("127.0.0.1", number)):
            return Finding(OK, "port", f"{number} is free")
    except OSError as error:
        found, free = f"{number}: {error.strerror}", number + 1 if 1024 <= number < 65_535 else 8000
        return Finding(NOTE, "port", found, f"stop what uses it, or choose another: make serve PORT={free}")


def page_libraries() -> Finding:
    """Whether the page can identify cards, or npm could fetch what that needs."""
    if (WEB / "vendor" / VENDORED).is_file():
        return Finding(OK, "page", "its libraries are in web/vendor")
    if shutil.which("npm"):
        return Finding(NOTE, "page", "its libraries are not there yet", "run make vendor (make serve does)")
    return Finding(NOTE, "page", "no npm to fetch its libraries", "Debian: apt install npm, then make vendor")


def browser() -> Finding:
    """Whether the page's tests have a browser."""
    wanted = os.environ.get("CHROMIUM")
    found = next((where for name in ((wanted,) if wanted else BROWSERS) if (where := shutil.which(name))), None)
    if found:
        return Finding(OK, "browser", found)
    what = f"CHROMIUM names no program: {wanted}" if wanted else "no Chromium"
    return Finding(NOTE, "browser", what, "only the page's tests need it; Debian: apt install chromium")
