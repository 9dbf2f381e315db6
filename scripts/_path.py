"""Lets `python scripts/x.py` find `helpers`, from any working directory. The only place that touches sys.path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import helpers.interrupts  # noqa: F401  # our first import, see there
