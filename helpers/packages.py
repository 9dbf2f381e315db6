"""The packages that requirements.txt names: which of them this Python lacks, and how a script says so.

It needs none of them itself: `doctor.py` works before there is an environment.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
MODULES = {"pillow": "PIL", "open_clip_torch": "open_clip", "faiss-cpu": "faiss", "opencv-python-headless": "cv2"}
ADVICE = "run make env (it installs into the activated environment, else into .venv), and use .venv/bin/python"


class Requirement(NamedTuple):
    """A line of a requirements file."""

    package: str  # in lower case
    bounds: tuple[tuple[str, str], ...]  # (>=, 2.3), …

    @property
    def module(self) -> str:
        """What it is imported as."""
        return MODULES.get(self.package, self.package)

    def lacks(self) -> str | None:
        """What is wrong with the package in this Python, in words; None if nothing."""
        import importlib.metadata  # here: every script imports this module, and this takes longer than the rest of it

        try:
            found = importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return f"no {self.package}"
        fits = all(_fits(found, how, bound) for how, bound in self.bounds)
        return None if fits else f"{self.package} {found}, not {','.join(how + bound for how, bound in self.bounds)}"


def requirements(file: Path = REQUIREMENTS) -> Iterator[Requirement]:
    """The lines of `file`, and of the files that it names with -r."""
    for line in file.read_text(encoding="utf-8").splitlines():
        wanted = line.partition("#")[0].strip()
        if wanted.startswith("-r "):
            yield from requirements(file.parent / wanted[3:].strip())
        elif wanted:
            name, bounds = re.fullmatch(r"([\w.-]+)(.*)", wanted).groups()  # type: ignore[union-attr]  # a test tries all
            yield Requirement(name.lower(), tuple(re.findall(r"(>=|==|<)([\w.]+)", bounds)))


def _fits(found: str, how: str, bound: str) -> bool:
    ours, theirs = _release(found), _release(bound)
    return {">=": ours >= theirs, "==": ours == theirs, "<": ours < theirs}[how]


def _release(version: str) -> tuple[int, ...]:
    """2.9.0+cu128 -> (2, 9): zeros at the end mean nothing."""
    numbers = [int(number) for number in re.match(r"[\d.]*\d", version)[0].split(".")]  # type: ignore[index]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def tell_of_missing_packages() -> None:
    """From now on, say what to do where the import of a package of ours fails and nobody catches that.

    Other errors are shown as before, and so are all in a notebook.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        module = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and module in {wanted.module for wanted in requirements()}:
            print(
                "ERROR: Configuration Error: this Python lacks packages that the project needs\n"
                f"  Details: {sys.executable} finds no {module}\n"
                f"  Suggestion: {ADVICE}",
                file=sys.stderr,
            )
        else:
            before(kind, error, trace)

    sys.excepthook = hook
