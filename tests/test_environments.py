"""The ways to install agree: conda's files, requirements.txt, pyproject.toml."""

import ast
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers import OLDEST_PYTHON, packages
from helpers.about import VERSION
from tests.conftest import ROOT
from tests.test_cli_validation import SCRIPTS

KINDS = ("cpu", "gpu", "mps")


def environment(kind: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / f"environment-{kind}.yml").read_text(encoding="utf-8")))


def requirements(file: Path) -> dict[str, str]:
    """Package -> what is asked of it, of `file` and of the files it names."""
    found: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        wanted = line.partition("#")[0].strip()
        if wanted.startswith("-r "):
            found |= requirements(file.parent / wanted[3:].strip())
        elif wanted:
            name = re.match(r"[A-Za-z0-9_.-]+", wanted)
            assert name
            found[name[0].lower()] = wanted[name.end() :].strip()
    return found


def pip_lines(kind: str) -> list[str]:
    (pip,) = (entry["pip"] for entry in environment(kind)["dependencies"] if isinstance(entry, dict))
    return list(pip)


@pytest.mark.parametrize("kind", KINDS)
def test_conda_installs_what_pip_installs(kind: str, tmp_path: Path) -> None:
    lines = [line for line in pip_lines(kind) if not line.startswith("--extra-index-url ")]
    (tmp_path / "lines.txt").write_text("\n".join(line.replace("-r ", f"-r {ROOT}/") for line in lines))
    through_conda, needed = requirements(tmp_path / "lines.txt"), requirements(ROOT / "requirements.txt")
    assert needed
    assert needed.items() <= through_conda.items()
    assert through_conda == requirements(ROOT / "requirements-dev.txt")  # make's targets work there too
    plain = [entry for entry in environment(kind)["dependencies"] if isinstance(entry, str)]
    assert {re.split("[=<>]", entry)[0] for entry in plain} == {"python", "pip"}  # nothing is asked for twice


@pytest.mark.parametrize("kind", KINDS)
def test_each_environment_has_a_python_that_will_do_and_a_name_of_its_own(kind: str) -> None:
    parsed = environment(kind)
    (python,) = (entry for entry in parsed["dependencies"] if str(entry).startswith("python="))
    lowest = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert lowest
    assert int(python.rpartition(".")[2]) >= int(lowest[1])
    assert parsed["name"] == f"mtg-image-db-{kind}"
    assert parsed["channels"] == ["conda-forge"]


def test_only_the_cpu_s_environment_names_pytorch_s_cpu_index() -> None:
    address = "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert [kind for kind in KINDS if address in pip_lines(kind)] == ["cpu"]
    assert address in (ROOT / "README.md").read_text()  # pip's users without CUDA are told
    assert address in (ROOT / "Makefile").read_text()


def test_every_import_of_the_product_is_in_the_requirements() -> None:
    names = {module: package for package, module in packages.MODULES.items()}
    optional = {"pillow_heif": "pillow-heif", "pyarrow": "pyarrow"}
    larger = {"lance"}  # pylance: 230 MB for one format; its tests are skipped without it
    needed = requirements(ROOT / "requirements.txt")
    assert set(optional.values()) <= set(requirements(ROOT / "requirements-dev.txt"))  # the tests need them
    for file in (*ROOT.glob("*.py"), *(ROOT / "helpers").rglob("*.py")):
        for package in re.findall(r"^\s*(?:from|import) (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            known = package in {"helpers", "__future__", *optional, *larger, *sys.stdlib_module_names}
            assert known or names.get(package, package) in needed, f"{file.name} imports {package}"


# Runs each script, named by its arguments, with --help in a process of its own, as the Python in question would; says
# how each ended. What Python itself imports is imported before: it would look for Windows' modules.
AS_ANOTHER_PYTHON = """
import os, runpy, sys
import argparse, concurrent.futures.process, http.server, logging, multiprocessing, socket, subprocess, tempfile, uuid

{change}
for script in sys.argv[1:]:
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        sys.argv = [script, "--help"]
        sys.path.insert(0, os.path.dirname(script))
        print("==", script, file=sys.stderr, flush=True)
        runpy.run_path(script, run_name="__main__")
        os._exit(0)
    print(script, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
ON_WINDOWS = "sys.platform = 'win32'; sys.modules['fcntl'] = sys.modules['resource'] = None"
OLD = "sys.version_info = (3, 9, 18, 'final', 0)"
WITHOUT_PACKAGES = "sys.modules.update(dict.fromkeys({modules}))"
ENTRANCES = [str(ROOT / script) for script in SCRIPTS]


def first_lines(change: str, scripts: Sequence[str] = ENTRANCES) -> list[str]:
    """The first line of stderr of each script; fails where there is a traceback, or another exit code than 1."""
    code = AS_ANOTHER_PYTHON.format(change=change)
    words = [sys.executable, "-c", code, *scripts]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["1"] * len(scripts), done.stdout
    told = done.stderr.split("== ")[1:]
    assert all(re.fullmatch(r"\S+\nERROR: .+\n  Details: .+\n  Suggestion: .+\n", one) for one in told), done.stderr
    return [one.splitlines()[1] for one in told]


def test_windows_is_told_in_every_first_line_what_is_needed() -> None:
    assert set(first_lines(ON_WINDOWS)) == {"ERROR: Configuration Error: this needs Linux or macOS"}


@pytest.mark.parametrize("missing", ["fcntl", "resource"])
@pytest.mark.parametrize("module", ["helpers", "helpers.recognise.query"])
def test_who_imports_the_library_is_told_too(missing: str, module: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: Configuration Error: this needs Linux or macOS\n  Details: ")
    assert "WSL 2" in done.stderr


def test_an_old_python_is_told_in_every_first_line_what_is_needed() -> None:
    assert set(first_lines(OLD)) == {"ERROR: Configuration Error: this needs Python 3.10 or newer"}
    lowest = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert lowest
    assert (3, int(lowest[1])) == OLDEST_PYTHON
    for script in (*ENTRANCES, f"{ROOT}/scripts/_path.py", f"{ROOT}/helpers/__init__.py"):  # it must parse them
        ast.parse(Path(script).read_text(encoding="utf-8"), feature_version=(3, 8))


def test_a_python_without_the_packages_is_told_in_every_first_line() -> None:
    modules = [wanted.module for wanted in packages.requirements()]
    others = [script for script in ENTRANCES if not script.endswith("/doctor.py")]  # it works without
    told = first_lines(WITHOUT_PACKAGES.format(modules=modules), others)
    assert set(told) == {"ERROR: Configuration Error: this Python lacks packages that the project needs"}


def test_a_package_that_is_missed_late_is_named_and_other_errors_stay_as_they_are() -> None:
    start = "import helpers\ndef f():\n  import {}\nf()"
    for module, said in (("torch", f"Details: {sys.executable} finds no torch\n"), ("no_such", "No module named")):
        code = f"import sys; sys.modules['torch'] = None; {start.format(module)}"
        words = [sys.executable, "-c", code.replace("; import", "\nimport")]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
        assert ("Traceback" in done.stderr) == (module == "no_such")


def test_every_line_of_the_requirements_is_understood() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        found = {wanted.package: "".join(map("".join, wanted.bounds)) for wanted in packages.requirements(ROOT / name)}
        assert found == {k: v.replace(",", "") for k, v in requirements(ROOT / name).items()}
    for wanted in packages.requirements():
        assert importlib.util.find_spec(wanted.module), wanted  # MODULES says what each is imported as
        assert wanted.lacks() is None


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ("", None),
        (">=2.0.1,<3", None),
        (">=2.1", "requests 2.0.10, not >=2.1"),
        ("<2.0.10", "requests 2.0.10, not <2.0.10"),
        ("==2.0.10", None),
        ("==2.0", "requests 2.0.10, not ==2.0"),
    ],
)
def test_versions_are_compared_as_numbers(
    bounds: str, said: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.0.10+cpu")
    (tmp_path / "r.txt").write_text(f"requests{bounds}  # a comment\n")
    (wanted,) = packages.requirements(tmp_path / "r.txt")
    assert wanted.lacks() == (said and said.replace("2.0.10,", "2.0.10+cpu,"))


def project_table() -> dict[str, Any]:
    """What pyproject.toml says; Python 3.10 has no tomllib."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))


def test_the_library_s_rooms_are_named_one_by_one() -> None:
    folders = [path.parent for path in (ROOT / "helpers").rglob("__init__.py")]
    rooms = sorted(".".join(folder.relative_to(ROOT).parts) for folder in folders)
    assert project_table()["tool"]["setuptools"]["packages"] == rooms
    assert not [path for path in (ROOT / "helpers").rglob("*.py") if path.parent not in folders]


def test_the_version_has_one_home() -> None:
    table = project_table()
    assert "version" in table["project"]["dynamic"]
    assert table["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "helpers.about.VERSION"}
    written = re.compile(rf"(?<![\d.=]){re.escape(VERSION)}(?![\d.])")
    files = list(ROOT.glob("*"))
    for folder in ("helpers", "scripts", "docs", "web/page", "web/recogniser"):
        files += (ROOT / folder).rglob("*")
    mine = [path for path in files if path.suffix in (".py", ".js", ".md", ".toml", ".yml", ".html", ".json", ".txt")]
    named = {path.relative_to(ROOT).as_posix() for path in mine if written.search(path.read_text(encoding="utf-8"))}
    assert named <= {"helpers/about.py", "docs/commands.md", "CHANGELOG.md"}  # the commands are generated
    assert "helpers/about.py" in named


@pytest.mark.slow
def test_an_editable_install_makes_the_library_importable_from_anywhere(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    project, site = tmp_path / "project", tmp_path / "site"
    shutil.copytree(ROOT / "helpers", project / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("models", "scripts", "docs"):  # what stands beside it in a checkout
        (project / name).mkdir()
    for name in ("pyproject.toml", "requirements.txt", "query_index.py", "build_embeddings.py"):
        shutil.copy(ROOT / name, project)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", site, "-e", project], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rooms = project_table()["tool"]["setuptools"]["packages"]
    code = f"import site; site.addsitedir({str(site)!r}); import {', '.join(rooms)}; print(helpers.tune.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(project / "helpers" / "tune" / "__init__.py"), done.stderr
    (metadata,) = site.glob("*.dist-info/METADATA")
    assert f"\nVersion: {VERSION}\n" in metadata.read_text()
    needed = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*; extra)", metadata.read_text(), re.MULTILINE)
    assert [name.lower() for name in needed] == [*requirements(ROOT / "requirements.txt")]
