"""What the scripts share. Arrows go one way: scripts import helpers, never back."""

import importlib.util
import sys

if importlib.util.find_spec("msgspec") is None:  # the one that most of them import first
    sys.exit(
        "ERROR: Configuration Error: this Python has not the packages that are needed\n"
        f"  Details: {sys.executable} finds no msgspec\n"
        "  Suggestion: use .venv/bin/python after make env, or pip install -r requirements.txt"
    )
