"""Scripts of the project that are stopped or killed at a moment that a test chooses."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT
from tests.warm_python import WarmProcess, run_warm

KILLED = -signal.SIGKILL
MAX_RUN_SECONDS = 300.0
WIDTH = 512  # of the rows that the tests' models make


def rows_in(out: Path) -> int:
    """How many rows the build in `out` has come to. A stop may cost the last batch, which may not be counted yet."""
    file = out / "checkpoint_embeddings.npy"
    return max(0, file.stat().st_size - 128) // (4 * WIDTH) if file.exists() else 0


def run_until(
    due: Callable[[], bool],
    script: str,
    *arguments: object,
    sent: signal.Signals = signal.SIGKILL,
    warm: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `script` and send it `sent` as soon as `due` is true; a script that ends before is not stopped.

    In a `warm` process the imports are done already.
    """
    words = [sys.executable, str(ROOT / script), *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        with (
            WarmProcess(script, *arguments, stdout=stdout, stderr=stderr)
            if warm
            else subprocess.Popen(words, stdout=stdout, stderr=stderr)
        ) as run:
            deadline = time.monotonic() + MAX_RUN_SECONDS
            while run.poll() is None and not due():
                assert time.monotonic() < deadline, f"{script} did not come so far"
                time.sleep(0.002)
            run.send_signal(sent)
            run.wait(timeout=60)
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(words, run.wait(), stdout.read(), stderr.read())


def run_signalled_before(
    call: str, script: str, *arguments: object, sent: signal.Signals = signal.SIGKILL
) -> subprocess.CompletedProcess[str]:
    """Run `script`, which gets the signal just before `call`: "replace NAME" or "unlink NAME"."""
    return run_warm(script, *arguments, before=(int(sent), *call.split()))


# Runs a script that gets a signal at the moment at which it asks for a module for the first time.
_SIGNALLED_AT_IMPORT = """
import os, runpy, sys
number, module, script = int(sys.argv[1]), sys.argv[2], sys.argv[3]
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Watch())
sys.argv = sys.argv[3:]
sys.path.insert(0, os.path.dirname(script))
runpy.run_path(script, run_name="__main__")
"""


def run_signalled_at_import(
    module: str, sent: signal.Signals, script: str, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Run `script`, which gets the signal when it begins to import `module`."""
    words = [sys.executable, "-c", _SIGNALLED_AT_IMPORT, str(int(sent)), module, str(ROOT / script)]
    return _run([*words, *map(str, arguments)])


def _run(words: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=MAX_RUN_SECONDS, check=False)
