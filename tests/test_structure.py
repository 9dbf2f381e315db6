"""The house keeps its rooms: arrows go one way, heavy imports have one home each, functions stay short.

`pytest -s tests/test_structure.py` prints the figures.
"""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

PRODUCT = sorted(path for glob in ("*.py", "helpers/**/*.py", "scripts/**/*.py") for path in ROOT.glob(glob))
ROOMS = sorted(path.name for path in (ROOT / "helpers").iterdir() if (path / "__init__.py").is_file())
GROUND = {
    *("about", "artifacts", "atomic_io", "cli_validation", "ending", "errors", "html_page", "interrupts"),
    *("locks", "lookahead", "machine_limits", "options", "packages", "session", "tables", "talk", "validation"),
}
MAX_LINES, MAX_LONGER = 40, 5
HOMES = {  # what is heavy to import or easy to misuse -> the only modules that may
    "open_clip": {"helpers/embed/embedder.py", "helpers/embed/models.py", "scripts/make_offline_model.py"},
    "faiss": {"helpers/index/faiss_index.py"},
    "cv2": {
        *("helpers/recognise/finding.py", "helpers/recognise/camera.py", "helpers/recognise/verifying.py"),
        "helpers/evaluate/phash.py",
    },
    "rapidfuzz": {"helpers/recognise/titles.py"},
    "rapidocr": {"helpers/recognise/reading.py"},
    "onnx": {"helpers/embed/onnx.py"},
    "onnxruntime": {"helpers/embed/onnx.py"},
    "brotli": {"helpers/index/bundle.py"},
    "pyarrow": {"helpers/index/table_format.py"},
    "lance": {"helpers/index/table_format.py"},
    "requests": {"helpers/session.py", "helpers/net/probe.py"},
    "matplotlib": {"helpers/evaluate/plots.py"},
    "argparse": {"helpers/cli_validation.py", "helpers/options.py"},  # and scripts, for their namespaces
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imported(path: Path) -> set[str]:
    """The modules that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def arrows(path: Path) -> set[str]:
    """The modules of helpers that a file imports."""
    found = {name for name in imported(path) if name.startswith("helpers.")}
    return {name for name in found if (ROOT / f"{name.replace('.', '/')}.py").is_file()}


def place(module: str) -> str:
    """The room of a module of helpers; a module of the ground stands for itself."""
    parts = module.split(".")
    return parts[1]


def test_the_ground_holds_what_all_use_and_nothing_else() -> None:
    assert {path.stem for path in (ROOT / "helpers").glob("*.py")} - {"__init__"} == GROUND
    assert ROOMS == ["build", "cards", "doctor", "download", "embed", "evaluate", "index", "net", "recognise", "tune"]
    print(f"\nmodules in helpers/ itself: {len(GROUND)}")


def test_no_module_and_no_room_is_part_of_a_circle() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): arrows(path) for path in PRODUCT}
    list(TopologicalSorter(modules).static_order())  # CycleError names a circle
    rooms: dict[str, set[str]] = {}
    for module, targets in modules.items():
        if module.startswith("helpers.") and not module.endswith("__init__"):
            rooms.setdefault(place(module), set()).update({place(t) for t in targets} - {place(module)})
    list(TopologicalSorter(rooms).static_order())
    stage = modules["helpers.build.stage"]
    print(f"\nimport circles: 0; files that the build's stage imports: {len(stage)}")
    assert len(stage) <= 18
    assert not any(target.startswith("scripts") for targets in modules.values() for target in targets)


@pytest.mark.parametrize("package", HOMES)
def test_heavy_imports_have_one_home_each(package: str) -> None:
    users = {name_of(path) for path in PRODUCT if package in {name.partition(".")[0] for name in imported(path)}}
    if package == "argparse":
        users = {user for user in users if user.startswith("helpers/")}
    assert users == HOMES[package]


def test_functions_are_short_and_hardly_any_except_is_blind() -> None:
    longer, blind = [], []
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= MAX_LINES:
                longer.append(f"{name_of(path)}:{node.name}")
            if isinstance(node, ast.ExceptHandler) and not any(isinstance(n, ast.Raise) for n in ast.walk(node)):
                caught = node.type.id if isinstance(node.type, ast.Name) else "" if node.type else "everything"
                blind += [f"{name_of(path)}:{node.lineno}"] * (caught in ("Exception", "BaseException", "everything"))
    print(f"\nfunctions over {MAX_LINES} lines: {longer}; blind excepts: {blind}")
    assert len(longer) <= MAX_LONGER
    assert len(blind) <= 3


def test_folders_that_tests_share_have_names_of_their_own() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py"))
    names = re.findall(r"\bshare\(\s*\"(\w+)\"", text)  # of one name, whichever comes first fills it for both
    assert len(names) > 5
    assert sorted(names) == sorted(set(names))


def test_the_architecture_s_table_tells_which_room_imports_which() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ?([^|]*) ?\|$", page.partition("imports |")[2], re.MULTILINE)
    told = {room: set(re.findall(r"`(\w+)`", others)) for room, others in rows}
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for path in PRODUCT:
        if (room := path.relative_to(ROOT).parts[1:2]) and room[0] in found:
            found[room[0]] |= {place(target) for target in arrows(path)} & set(ROOMS) - {room[0]}
    assert told == found
