"""Scripts that get a signal just before they rename or remove a file of a given name."""

import os
from typing import Any


def signal_before(number: int, call: str, name: str) -> None:
    """Let this process get signal `number` before `os.replace` or `os.unlink` is called for a file of that `name`."""
    real = getattr(os, call)

    def watched(*paths: Any, **more: Any) -> Any:
        if os.path.basename(os.fspath(paths[-1])) == name and os.path.exists(paths[0]):  # noqa: PTH110, PTH119
            os.kill(os.getpid(), number)
        return real(*paths, **more)

    setattr(os, call, watched)
