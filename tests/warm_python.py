"""Processes that have torch, open_clip and faiss imported already: that takes six seconds, and tests build often.

One process a test worker imports them once and forks for each script that is to be run: a process of its own, with its
own exit code, outputs, directory and signals, as `python script.py` is but for the imports. Not for scripts that set
something before they import (the model hub's address, say).
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.signalled import signal_before

MAX_RUN_SECONDS = 300
ROOT = Path(__file__).resolve().parent.parent


@cache
def _importer() -> "subprocess.Popen[str]":
    """The process that forks; it ends when ours does, since its stdin does."""
    words = [sys.executable, "-m", "tests.warm_python"]
    return subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run_warm(
    script: Path, arguments: list[str], cwd: Path | None, before: tuple[Any, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run `script` to its end; its exit code and both outputs come back. `before` is for `signal_before`, if any."""
    importer = _importer()
    assert importer.stdin
    assert importer.stdout
    with TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        task: dict[str, Any] = {"argv": [str(script), *arguments], "cwd": str(cwd or Path.cwd())}
        task |= {"outputs": list(map(str, outputs)), "before": before}
        importer.stdin.write(json.dumps(task) + "\n")
        importer.stdin.flush()
        code = int(importer.stdout.readline())
        stdout, stderr = (path.read_text(encoding="utf-8") for path in outputs)
    return subprocess.CompletedProcess(task["argv"], code, stdout, stderr)


def _become(task: dict[str, Any]) -> None:
    """Be the script, in a process that was forked for it."""
    for number, target in enumerate([os.devnull, *task["outputs"]]):
        opened = os.open(target, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115  # as Python begins with
    signal.alarm(MAX_RUN_SECONDS)
    os.chdir(task["cwd"])
    if task["before"]:
        signal_before(*task["before"])
    sys.argv = task["argv"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


def main() -> None:
    """Import, then fork for each line of stdin and answer with an exit code, as subprocess has it."""
    import helpers.embed.stage
    import helpers.index.faiss_index
    import helpers.index.self_check  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                _become(json.loads(line))
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:  # noqa: BLE001  # as Python ends with any
                traceback.print_exc()
                code = 1
            else:
                code = 0
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
