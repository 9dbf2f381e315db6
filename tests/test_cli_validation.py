"""What every script does with its arguments, seen from outside."""

import ast
import re

import pytest

from tests.conftest import ROOT, run_script

SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in (ROOT, ROOT / "scripts")
    for path in folder.glob("*.py")
    if not path.name.startswith("_")
)
HEAVY = {"torch", "open_clip", "faiss", "torchvision", "timm"}


def blocks(stderr: str) -> list[str]:
    """The first line of each error block; fails where there is anything else."""
    lines = stderr.splitlines()
    assert len(lines) % 3 == 0, stderr
    assert all(line.startswith("  Details: ") for line in lines[1::3]), stderr
    assert all(line.startswith("  Suggestion: ") for line in lines[2::3]), stderr
    return lines[::3]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_teaches_without_importing_what_takes_seconds(script: str) -> None:
    done = run_script(script, "--help", env={"PYTHONPROFILEIMPORTTIME": "1", "PATH": ""})
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & HEAVY
    assert "Reads:" in done.stdout
    assert "Writes:" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_version_is_told(script: str) -> None:
    done = run_script(script, "--version")
    assert (done.returncode, bool(re.search(r"\d+\.\d+\.\d+$", done.stdout.strip()))) == (0, True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_flag_is_a_bad_argument(script: str) -> None:
    more = ["a.jpg"] if script == "query_index.py" else []
    done = run_script(script, "--wrokers", "3", *more)
    assert done.returncode == 1
    assert blocks(done.stderr) == ["ERROR: Invalid Arguments: unknown argument --wrokers"]
    assert done.stdout == ""


BAD_VALUES = [
    ("download_images.py", flag, value)
    for flag, values in {
        "--kind": ["cards", ""],
        "--limit": ["-1", "1.5", "many", "9" * 30],
        "--workers": ["0", "129", "x"],
        "--timeout-connect": ["0.5", "nan", "inf", "-inf", "1e300"],
        "--timeout-read": ["4", "x"],
        "--max-retries": ["-1"],
        "--max-failures": ["-1", "101"],
        "--image-key": ["tiny"],
        "--api-url": ["scryfall", "ftp://x", "http://", "http://x:port"],
        "--user-agent": ["", "line\nbreak", "Ünicode"],
        "--cache": [""],
    }.items()
    for value in values
] + [
    ("build_embeddings.py", flag, value)
    for flag, values in {
        "--batch": ["0", "-3"],
        "--size": ["63"],
        "--fit": ["stretch"],
        "--hnsw-m": ["3", "129"],
        "--hnsw-ef-construction": ["0", "2001", "31"],
        "--device": ["tpu"],
        "--model": [" "],
        "--out": [""],
    }.items()
    for value in values
]
BAD_VALUES += [("query_index.py", "--k", "0"), ("query_index.py", "--ef-search", "0")]
BAD_VALUES += [("scripts/standin_scryfall.py", "--port", "65536"), ("scripts/draw_cards.py", "--count", "0")]


@pytest.mark.parametrize(("script", "flag", "value"), BAD_VALUES)
def test_a_bad_value_is_named_with_what_to_do(script: str, flag: str, value: str) -> None:
    more = ["a.jpg"] if script == "query_index.py" else []
    done = run_script(script, f"{flag}={value}", *more)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ERROR: Invalid Arguments: {flag} must ")
    assert f"  Details: received {flag}" in done.stderr
    assert "  Suggestion: " in done.stderr


def test_everything_that_is_wrong_is_named_at_once() -> None:
    done = run_script(
        *("build_embeddings.py", "--batch", 0, "--size", "x", "--hnsw-m", 64, "--hnsw-ef-construction", 10),
        *("--refresh", "--offline", "--bacth", 3),
    )
    assert done.returncode == 1
    assert blocks(done.stderr) == [
        "ERROR: Invalid Arguments: --batch must be >= 1",
        "ERROR: Invalid Arguments: --size must be a whole number >= 64",
        "ERROR: Invalid Arguments: unknown argument --bacth",
        "ERROR: Invalid Arguments: --refresh and --offline exclude each other",
        "ERROR: Invalid Arguments: --hnsw-ef-construction must be >= --hnsw-m",
    ]
    assert "did you mean --batch?" in done.stderr


def test_the_example_of_the_contract_reads_as_it_says() -> None:
    done = run_script("build_embeddings.py", "--batch", "0")
    assert done.stderr == (
        "ERROR: Invalid Arguments: --batch must be >= 1\n"
        "  Details: received --batch 0\n"
        "  Suggestion: use --batch 64 or higher\n"
    )


def test_a_rule_between_options_is_not_asked_where_one_of_them_is_broken() -> None:
    done = run_script("build_embeddings.py", "--hnsw-m", 999, "--hnsw-ef-construction", 10)
    assert blocks(done.stderr) == ["ERROR: Invalid Arguments: --hnsw-m must be 4 to 128"]


@pytest.mark.parametrize("arguments", [["--limit"], ["--limit", "--offline"]])
def test_a_flag_without_its_value_is_a_bad_argument(arguments: list[str]) -> None:
    done = run_script("download_images.py", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: Invalid Arguments: ")
    assert "--limit" in done.stderr


def test_a_picture_must_be_named() -> None:
    done = run_script("query_index.py", "--k", 3)
    assert (done.returncode, blocks(done.stderr)) == (1, ["ERROR: Invalid Arguments: IMAGE is required"])


def test_the_default_server_can_be_set_by_the_environment() -> None:
    done = run_script("download_images.py", "--help", env={"SCRYFALL_API_URL": "http://127.0.0.1:1"})
    assert "http://127.0.0.1:1" in done.stdout
    done = run_script("download_images.py", env={"SCRYFALL_API_URL": "nonsense"})
    assert (done.returncode, blocks(done.stderr)) == (
        1,
        ["ERROR: Invalid Arguments: --api-url must be an http(s) address"],
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_imports_another(script: str) -> None:
    others = {name.rpartition("/")[2].removesuffix(".py") for name in SCRIPTS}
    tree = ast.parse((ROOT / script).read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert not imported & others
