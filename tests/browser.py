"""A real browser for tests: Chromium, headless, and servers that are like scripts/serve_web.py."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.artifacts import VENDORED, WEB

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from serve_web import Server

BLANK = b"<!doctype html><title>blank</title><link rel=icon href=data:,>"  # without an icon there is a 404
Served = Callable[..., str]


def chromium() -> str:
    """The browser's program; skips the test if there is none."""
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    found = next((where for name in names if name and (where := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on the PATH (Debian: apt install chromium; CHROMIUM names another program)")
    return found


@contextmanager
def serving_web(*folders: Path, pictures: Path | None = None) -> "Iterator[Server]":
    """A server on a free port over web/ and `folders`, the first wins, with `pictures` under /pictures/."""
    from serve_web import Server, Tree

    with Server(("127.0.0.1", 0), Tree((WEB, *folders), pictures)) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """`served(folder, …, pictures=…)` is the address of a server over web/ and these folders; it ends in a slash."""
    with ExitStack() as stack:
        yield lambda *folders, pictures=None: stack.enter_context(serving_web(*folders, pictures=pictures)).url


@pytest.fixture(scope="session")
def bare_browser() -> "Iterator[Browser]":
    """Chromium, headless, for pages that need nothing of web/vendor."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements-dev.txt)")
    program = chromium()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def browser(bare_browser: "Browser") -> "Browser":
    """Chromium for the pages of web/."""
    if not (WEB / "vendor" / VENDORED).is_file():
        pytest.skip("no web/vendor; run make vendor")
    return bare_browser


@pytest.fixture
def problems() -> list[str]:
    """What `page` has reported so far: errors on its console, and exceptions. A test that expects some clears it."""
    return []


@pytest.fixture
def page(browser: "Browser", problems: list[str]) -> "Iterator[Page]":
    """A page in a profile of its own. In the end it must have no `problems`."""
    with opened(browser, problems) as page:
        yield page
    assert problems == []


@contextmanager
def opened(browser: "Browser", problems: list[str], **options: Any) -> "Iterator[Page]":
    """A page in a profile of its own (half a second) with these options, whose errors are added to `problems`."""
    with browser.new_context(**options) as context:
        page = context.new_page()
        page.on("console", lambda said: problems.extend([f"{said.text} ({said.location})"] * (said.type == "error")))
        page.on("pageerror", lambda error: problems.append(f"{error.message}\n{error.stack}"))
        yield page
