"""What the scripts share. Arrows go one way: scripts import helpers, never back."""

import importlib.util
import sys

_ADVICE = {  # a module that most scripts import first -> what it means if this Python has none, and what to do
    "fcntl": ("this needs Linux or macOS", "use it in WSL 2, or in a container with Linux"),
    "resource": ("this needs Linux or macOS", "use it in WSL 2, or in a container with Linux"),
    "msgspec": (
        "this Python has not the packages that are needed",
        "use .venv/bin/python after make env, or pip install -r requirements.txt",
    ),
}

for _module, (_what, _advice) in _ADVICE.items():
    if importlib.util.find_spec(_module) is None:
        sys.exit(
            f"ERROR: Configuration Error: {_what}\n"
            f"  Details: {sys.executable} finds no {_module}\n"
            f"  Suggestion: {_advice}"
        )
