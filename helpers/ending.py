"""How every script ends: error messages, exit codes, Ctrl-C and SIGTERM."""

import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, TextIO

from helpers.errors import NO_SPACE, Category, ExitCode, PipelineError
from helpers.talk import say, tell


class Terminated(BaseException):
    """SIGTERM, as an exception, so that `finally` and `with` clean up as they do for Ctrl-C."""


def run(main: Callable[[], int], *, stopped: str = "what was finished is kept, nothing is half-written.") -> int:
    """Call `main` and return the process's exit code; known failures become words on stderr, never a traceback.

    `stopped` tells a user who interrupts it what state things are in.
    """
    try:
        return _told(main, stopped)
    except KeyboardInterrupt:  # while another ending was being reported
        return ExitCode.INTERRUPTED
    except Terminated:
        return ExitCode.TERMINATED
    finally:
        _let_go_of_stderr()


def _told(main: Callable[[], int], stopped: str) -> int:
    try:
        _make_streams_robust()
        _raise_on_signals()
        code = main()
        sys.stdout.flush()
        _ignore_signals()  # on the way out there is nothing left to stop
        return code
    except PipelineError as error:
        _ignore_signals()
        tell(error.render())
        return error.exit_code
    except KeyboardInterrupt:
        _ignore_signals()
        say(f"Interrupted: {stopped}")
        return ExitCode.INTERRUPTED
    except Terminated:
        _ignore_signals()
        say(f"Terminated: {stopped}")
        return ExitCode.TERMINATED
    except BrokenPipeError:
        _drop(sys.stdout)
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        _drop(sys.stdout)
        tell(_no_space(error).render())
        return ExitCode.ERROR


def _no_space(error: OSError) -> PipelineError:
    """Code that writes files names them itself; this is for what we print, and libraries' temporary files."""
    return PipelineError.of(
        Category.CONFIGURATION,
        "a disk is full",
        details=f"{error.filename or 'stdout, or a temporary file'}: {error.strerror}",
        suggestion="make room and run the same command again; what was finished is kept",
    )


def _drop(stream: TextIO) -> None:
    """Python flushes stdout and stderr once more on exit, which would fail again, and set the exit code to 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _let_go_of_stderr() -> None:
    """A log that takes no more lines has no say in how a run ends."""
    try:
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)


def _make_streams_robust() -> None:
    """Point closed streams at /dev/null and escape what a terminal can't show: neither is a reason to stop.

    Paths come on stdin, in whatever bytes the disk has them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for the whole run
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding=sys.getfilesystemencoding(), errors=sys.getfilesystemencodeerrors())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _raise_on_signals() -> None:
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, _raise_terminated)):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in `interrupts`
            signal.signal(number, handler)


def _ignore_signals() -> None:
    """A second Ctrl-C must not change how the first one ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _raise_terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated
