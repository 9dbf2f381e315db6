"""The Dockerfile and docs/containers.md fit the project: no engine is needed to see that."""

import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_environments import requirements
from tests.test_makefile import TARGETS, make

DOCKERFILE = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
STEPS = [line.split(None, 1) for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line]
COPIED = [rest.split() for word, rest in STEPS if word == "COPY" and "--from" not in rest]
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
PAGE = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^docker (?:run|build) .*$", PAGE, re.MULTILINE)


def context(name: str) -> list[Path]:
    """What a source of COPY names, as far as .dockerignore lets it through."""
    allowed = [line[1:] for line in IGNORED if line.startswith("!")]
    return [path for path in ROOT.glob(name) if any(fnmatch(path.name, pattern) for pattern in allowed)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's /app, as its last stage copies it, without what earlier stages make."""
    app = tmp_path_factory.mktemp("app")
    for *sources, target in COPIED:
        for path in (path for name in sources for path in context(name)):
            if path.is_dir():
                left_out = shutil.ignore_patterns("__pycache__", "vendor")
                shutil.copytree(path, app / target, dirs_exist_ok=True, ignore=left_out)
            else:
                shutil.copy(path, app / target)
    return app


def test_what_is_copied_is_there_and_reaches_the_engine() -> None:
    assert len(COPIED) >= 6
    for *sources, _ in COPIED:
        assert all(context(name) for name in sources), sources
    assert IGNORED[1] == "*"  # no picture, index or environment is sent along
    assert {"web/vendor", "**/__pycache__"} <= set(IGNORED)


@pytest.mark.parametrize("command", [command for command in COMMANDS if " make " in command])
def test_what_a_container_is_to_do_it_can(command: str, image: Path) -> None:
    tool, target, *more = shlex.split(re.split(r" mtg-image-db(?::cuda)? ", command)[1])
    assert (tool, target in TARGETS) == ("make", True)
    done = make("-C", str(image), "--dry-run", target, *more, VIRTUAL_ENV=sys.prefix)
    assert done.returncode == 0, done.stderr
    assert f"{sys.prefix}/bin/python" in done.stdout  # the image's environment is an activated one
    assert "pip" not in done.stdout


def test_its_scripts_find_what_they_need(image: Path) -> None:
    code = """
from helpers.artifacts import WEB
from helpers.embed.model_source import find_model
import demo, draw_cards, query_index, serve_web
assert (WEB / "index.html").is_file() and find_model("cards", "").folder.is_relative_to(WEB.parent)
print(WEB.parent)
"""
    words = [sys.executable, "-c", f"import sys; sys.path[:0] = ['.', 'scripts']\n{code}"]
    done = subprocess.run(words, cwd=image, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(image), done.stderr


def test_the_demo_s_typeface_is_the_one_that_is_asked_for() -> None:
    (expression,) = re.findall(r"\$\((sed .*? requirements-dev.txt)\)", DOCKERFILE)
    done = subprocess.run(["sh", "-c", expression], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "font-caladea" + requirements(ROOT / "requirements-dev.txt")["font-caladea"]


def test_it_runs_without_privileges_and_its_volumes_are_those_of_the_page() -> None:
    last = STEPS[max(number for number, (word, _) in enumerate(STEPS) if word == "FROM") :]
    assert [rest for word, rest in last if word == "USER"] == ["cards"]
    volumes = set(re.findall(r'"(/app/\w+)"', dict(last)["VOLUME"]))
    assert volumes == set(re.findall(r"-v mtg-\w+:(\S+)", PAGE))
    assert "EXPOSE 8000" in DOCKERFILE
    serving = next(command for command in COMMANDS if " serve " in command)
    assert "-p 127.0.0.1:8000:8000" in serving  # to this machine alone
    assert serving.endswith("make serve HOST=0.0.0.0")


def test_the_build_argument_is_the_one_of_the_page() -> None:
    arguments = {rest.partition("=")[0] for word, rest in STEPS if word == "ARG"}
    assert set(re.findall(r"--build-arg (\w+)=", PAGE)) == arguments
    assert "https://download.pytorch.org/whl/cpu" in DOCKERFILE
