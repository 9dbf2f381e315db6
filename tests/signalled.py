"""Scripts that get a signal just before they rename or remove a file of a given name.

python -m tests.signalled SIGNAL replace|unlink NAME SCRIPT [ARGUMENT ...], from the project's folder.
"""

import os
import runpy
import sys
from typing import Any


def signal_before(number: int, call: str, name: str) -> None:
    """Let this process get signal `number` before `os.replace` or `os.unlink` is called for a file of that `name`."""
    real = getattr(os, call)

    def watched(*paths: Any, **more: Any) -> Any:
        if os.path.basename(os.fspath(paths[-1])) == name and os.path.exists(paths[0]):  # noqa: PTH110, PTH119
            os.kill(os.getpid(), number)
        return real(*paths, **more)

    setattr(os, call, watched)


def main() -> None:
    """Be the script."""
    number, call, name, script = sys.argv[1:5]
    signal_before(int(number), call, name)
    sys.argv = sys.argv[4:]
    sys.path.insert(0, os.path.dirname(script))  # noqa: PTH120
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
