"""Processes that have torch, open_clip and faiss imported already: that takes six seconds, and tests run scripts often.

One process a test worker imports them once and forks for each script that is to be run: a process of its own, with its
own exit code, streams, directory, environment and signals, as `python script.py` is but for the imports. Not for what
must happen before those: libraries read the environment as they are imported. The hub is never asked from here.
"""

import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any

from tests.signalled import signal_before

MAX_RUN_SECONDS = 300
ROOT = Path(__file__).resolve().parent.parent


@cache
def _importer() -> socket.socket:
    """A line to the process that forks, which ends when ours does."""
    ours, theirs = socket.socketpair()
    words = [sys.executable, "-m", "tests.warm_python", str(theirs.fileno())]
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    subprocess.Popen(words, cwd=ROOT, env=offline, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    theirs.close()
    return ours


class WarmProcess:
    """A script under way; what tests need of subprocess.Popen. Streams are None (a pipe) or open files."""

    def __init__(
        self,
        script: str | Path,
        *arguments: object,
        cwd: Path | None = None,
        before: Sequence[Any] = (),
        env: Mapping[str, str] | None = None,
        max_file_bytes: int | None = None,
        stdin: IO[Any] | int | None = None,
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | int | None = None,
    ) -> None:
        """`before` is for `signal_before`, if any; `env` is added to the environment."""
        self.args = [str(ROOT / script), *map(str, arguments)]
        self.returncode: int | None = None
        pipes = [os.pipe() if stream is None else None for stream in (stdin, stdout, stderr)]
        given = [s if isinstance(s, int) else s.fileno() if s else -1 for s in (stdin, stdout, stderr)]
        ends = [pipe[number > 0] if pipe else given[number] for number, pipe in enumerate(pipes)]
        self._status, status = os.pipe()
        task: dict[str, Any] = {"argv": self.args, "cwd": str(cwd or Path.cwd()), "before": before}
        task |= {"env": dict(env or {}), "max_file_bytes": max_file_bytes}
        socket.send_fds(_importer(), [json.dumps(task).encode() + b"\n"], [*ends, status])
        os.close(status)
        for number, pipe in enumerate(pipes):
            if pipe:
                os.close(pipe[number > 0])
        self.stdin, self.stdout, self.stderr = (
            os.fdopen(pipe[number == 0], "w" if number == 0 else "r") if pipe else None
            for number, pipe in enumerate(pipes)
        )
        self.pid = int(self._said())

    def _said(self) -> bytes:
        """The next number that the process between us says: the script's pid, then its exit code."""
        said = b""
        while not said.endswith(b"\n"):
            byte = os.read(self._status, 1)
            assert byte, "the process that forks has died"
            said += byte
        return said

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._said())
            os.close(self._status)
        return self.returncode

    def wait(self, timeout: float = MAX_RUN_SECONDS) -> int:
        if self.returncode is None:
            select.select([self._status], [], [], timeout)
            assert self.poll() is not None, f"{self.args} does not end"
        return self.returncode or 0

    def communicate(self, timeout: float = MAX_RUN_SECONDS) -> tuple[str, str]:
        if self.stdin:
            self.stdin.close()
        said = [stream.read() if stream else "" for stream in (self.stdout, self.stderr)]
        self.wait(timeout)
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def __enter__(self) -> "WarmProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:
            self.send_signal(signal.SIGKILL)
        self.wait()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream and not stream.closed:
                stream.close()


def run_warm(
    script: str | Path, *arguments: object, cwd: Path | None = None, input: str = "", **more: Any
) -> "subprocess.CompletedProcess[str]":
    """Run `script` to its end; its exit code and both outputs come back.

    `input` is what it finds on stdin, `more` what WarmProcess takes.
    """
    text: dict[str, Any] = {"mode": "w+", "encoding": "utf-8", "errors": "surrogateescape"}
    with TemporaryFile(**text) as stdin, TemporaryFile(**text) as stdout, TemporaryFile(**text) as stderr:
        stdin.write(input)
        stdin.seek(0)
        with WarmProcess(script, *arguments, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, **more) as process:
            code = process.wait()
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(process.args, code, stdout.read(), stderr.read())


# ------------------------------------------------------------------------------------------- the process that forks


def _become(task: dict[str, Any], streams: list[int]) -> None:
    """Be the script, in a process that was forked for it."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115  # as Python begins with
    signal.alarm(MAX_RUN_SECONDS)
    os.chdir(task["cwd"])
    os.environ.update(task["env"])
    if task["max_file_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (task["max_file_bytes"], task["max_file_bytes"]))
    if task["before"]:
        signal_before(*task["before"])
    sys.argv = task["argv"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


def _be_script(task: dict[str, Any], streams: list[int]) -> None:
    try:
        _become(task, streams)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  # as Python ends with any
        traceback.print_exc()
        code = 1
    else:
        code = 0
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _watch(task: dict[str, Any], fds: list[int]) -> None:
    """In a process of its own: fork for the script, and say its pid and at last its exit code, as subprocess has it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    *streams, status = fds
    child = os.fork()
    if not child:
        os.close(status)
        _be_script(task, streams)
    for stream in streams:
        os.close(stream)
    os.write(status, b"%d\n" % child)
    os.write(status, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os._exit(0)


def main() -> None:
    """Import, then fork for each line."""
    import helpers.build.making
    import helpers.build.publish
    import helpers.build.stage
    import helpers.download.stage
    import helpers.options
    import helpers.recognise.query  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that watch
    line = socket.socket(fileno=int(sys.argv[1]))
    while True:
        said, fds, _, _ = socket.recv_fds(line, 1 << 20, 4)
        while said and not said.endswith(b"\n"):
            said += line.recv(1 << 20)
        if not said:
            return
        if not os.fork():
            line.close()
            _watch(json.loads(said), list(fds))
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    main()
