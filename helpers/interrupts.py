"""Ctrl-C and SIGTERM end a script quietly, with the right exit code, from its first import on.

Every script imports this before anything else of ours: reading the rest takes tenths of a second, in which Python would
answer with a traceback. There is nothing to clean up yet. `cli_validation.run` takes over once there is.
"""

import os
import signal
from types import FrameType
from typing import NoReturn


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


for _number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(_number) is not signal.SIG_IGN:  # as nohup and shells' background jobs have it
        signal.signal(_number, _end)
