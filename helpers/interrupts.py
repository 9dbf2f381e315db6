"""Ctrl-C and SIGTERM end a script quietly, with the right exit code, from its first import on.

Every script imports this before anything else of ours: importing the rest takes tenths of a second, during which Python
would print a traceback. There is nothing to clean up yet. `ending.run` takes over once there is.
"""

import os
import signal
from types import FrameType
from typing import NoReturn


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


for _number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(_number) is not signal.SIG_IGN:  # set by nohup, and for background jobs of shells
        signal.signal(_number, _end)
