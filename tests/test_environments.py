"""The ways to install agree: conda's files, requirements.txt, pyproject.toml."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

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
def test_each_environment_has_a_python_that_will_do_and_a_name_that_make_knows(kind: str) -> None:
    parsed = environment(kind)
    (python,) = (entry for entry in parsed["dependencies"] if str(entry).startswith("python="))
    lowest = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert lowest
    assert int(python.rpartition(".")[2]) >= int(lowest[1])
    assert parsed["name"] == f"mtg-image-db-{kind}"
    assert "mtg-image-db-%" in (ROOT / "Makefile").read_text()
    assert parsed["channels"] == ["conda-forge"]


def test_only_the_cpu_s_environment_names_pytorch_s_cpu_index() -> None:
    address = "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert [kind for kind in KINDS if address in pip_lines(kind)] == ["cpu"]
    assert address in (ROOT / "README.md").read_text()  # pip's users without CUDA are told
    assert address in (ROOT / "Makefile").read_text()


def test_every_import_of_the_product_is_in_the_requirements() -> None:
    names = {"PIL": "pillow", "open_clip": "open_clip_torch", "faiss": "faiss-cpu", "cv2": "opencv-python-headless"}
    optional = {"pillow_heif": "pillow-heif", "pyarrow": "pyarrow"}
    larger = {"lance"}  # pylance: 230 MB for one format; its tests are skipped without it
    needed = requirements(ROOT / "requirements.txt")
    assert set(optional.values()) <= set(requirements(ROOT / "requirements-dev.txt"))  # the tests need them
    for file in (*ROOT.glob("*.py"), *(ROOT / "helpers").rglob("*.py")):
        for package in re.findall(r"^\s*(?:from|import) (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            known = package in {"helpers", "__future__", *optional, *larger, *sys.stdlib_module_names}
            assert known or names.get(package, package) in needed, f"{file.name} imports {package}"


@pytest.mark.parametrize("missing", ["fcntl", "resource"])
def test_windows_is_told_in_the_first_line_what_is_needed(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import helpers"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: Configuration Error: this needs Linux or macOS\n  Details: ")
    assert "WSL" in done.stderr


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
    code = f"import site; site.addsitedir({str(site)!r}); import helpers.errors as e; print(e.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(project / "helpers" / "errors.py"), done.stderr
    (metadata,) = site.glob("*.dist-info/METADATA")
    needed = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*; extra)", metadata.read_text(), re.MULTILINE)
    assert [name.lower() for name in needed] == [*requirements(ROOT / "requirements.txt")]
