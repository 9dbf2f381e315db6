"""What the scripts share. Arrows go one way: scripts import helpers, never back.

Windows, an old Python and a missing package are told in words. This file must be valid Python 3.8.
"""

import importlib.util
import sys

OLDEST_PYTHON = (3, 10)  # as requires-python in pyproject.toml says


def _stop(what: str, details: str, suggestion: str) -> None:
    sys.exit(f"ERROR: Configuration Error: {what}\n  Details: {details}\n  Suggestion: {suggestion}")


for _module in ("fcntl", "resource"):
    if importlib.util.find_spec(_module) is None:
        _stop(
            "this needs Linux or macOS",
            f"the platform is {sys.platform}: {sys.executable} finds no {_module}",
            "install WSL 2 (wsl --install), and run the same command in its terminal; or use a container with Linux",
        )
if sys.version_info < OLDEST_PYTHON:
    _stop(
        "this needs Python {}.{} or newer".format(*OLDEST_PYTHON),
        "{} is Python {}.{}".format(sys.executable, *sys.version_info[:2]),
        "use .venv/bin/python after make env; if python3 is older, name another: make env PYTHON=python3.12",
    )

from helpers.packages import tell_of_missing_packages  # noqa: E402  # what it says is wrong on Windows

tell_of_missing_packages()
