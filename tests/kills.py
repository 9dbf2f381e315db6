"""Scripts of the project that are stopped or killed at a moment that a test chooses."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from tests.conftest import ROOT

KILLED = -signal.SIGKILL
LONGEST_RUN_SECONDS = 300.0

# Runs a script and kills it just before a call of os.replace or os.unlink that is about a file of a given name.
_KILLED_BEFORE = """
import os, runpy, signal, sys
what, name, script = sys.argv[1], sys.argv[2], sys.argv[3]
real = getattr(os, what)
def watched(*paths, **more):
    if os.path.basename(os.fspath(paths[-1])) == name and os.path.exists(paths[0]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*paths, **more)
setattr(os, what, watched)
sys.argv = sys.argv[3:]
sys.path.insert(0, os.path.dirname(script))
runpy.run_path(script, run_name="__main__")
"""


def run_until(
    due: Callable[[], bool], script: str, *arguments: object, sent: signal.Signals = signal.SIGKILL
) -> subprocess.CompletedProcess[str]:
    """Run `script` and send it `sent` as soon as `due` is true; a script that ends before is not stopped."""
    words = [sys.executable, str(ROOT / script), *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        with subprocess.Popen(words, stdout=stdout, stderr=stderr) as run:
            deadline = time.monotonic() + LONGEST_RUN_SECONDS
            while run.poll() is None and not due():
                assert time.monotonic() < deadline, f"{script} did not come so far"
                time.sleep(0.002)
            run.send_signal(sent)
            run.wait(timeout=60)
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(words, run.returncode, stdout.read(), stderr.read())


def run_killed_before(call: str, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `script`, killed just before `call`: "replace NAME" or "unlink NAME"."""
    words = [sys.executable, "-c", _KILLED_BEFORE, *call.split(), str(ROOT / script), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=LONGEST_RUN_SECONDS, check=False)
